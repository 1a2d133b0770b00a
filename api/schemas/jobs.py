"""Jobs as they are shown, listed, accepted and cancelled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.errors import JobError
from api.schemas.generated import Generated, Timings, TokenCounts
from api.schemas.response_model import Count, JobId, ResponseModel, Time
from api.schemas.server import ModelChanged
from api.schemas.tokens import Tokens
from common.jobs.job import JobKind, JobState, WebhookState

Outcome = Generated | ModelChanged | Tokens


class QueuePlace(ResponseModel):
    """How far a job is from its start; two nulls for one that is not queued."""

    position: Annotated[int | None, Field(description="1 is the next; 0: its turn has come")]
    estimated_wait_s: Annotated[float | None, Field(description="seconds until it begins; null where nobody can tell")]


class Accepted(QueuePlace):
    """A job that goes on without its client."""

    success: Literal[True]
    job_id: JobId
    status: JobState


class JobSummary(ResponseModel):
    """A job in a listing."""

    job_id: JobId
    kind: JobKind
    status: JobState
    attempt: Annotated[Count, Field(description="how often a worker took it up")]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class WebhookStatus(ResponseModel):
    """What became of the job's webhook."""

    state: WebhookState
    attempts: Count
    last_error: str | None


class Job(QueuePlace, JobSummary):
    """One job in full."""

    success: Literal[True]
    text: Annotated[str, Field(description="the answer so far")]
    result: Annotated[Outcome | None, Field(description="what it has brought, once it has ended")]
    error: JobError | None
    timings: Timings
    webhook: WebhookStatus | None


class JobList(ResponseModel):
    """Jobs, newest first."""

    success: Literal[True]
    jobs: list[JobSummary]


class QuarantinedJob(JobSummary):
    """A job that was set aside because several of its workers died."""

    crashes: Count
    error: JobError | None


class Quarantine(ResponseModel):
    """The jobs that were set aside, oldest first."""

    success: Literal[True]
    jobs: list[QuarantinedJob]


class Dropped(ResponseModel):
    """The job is not in quarantine any more."""

    success: Literal[True]
    job_id: JobId


class Cancellation(ResponseModel):
    """A job's state after its cancellation."""

    success: Literal[True]
    job_id: JobId
    status: JobState
    cancelling: Annotated[bool, Field(description="whether it still runs, until its next token")]


class Account(TokenCounts):
    """What the caller's ended jobs came to."""

    success: Literal[True]
    owner: str
    jobs: Count


class Webhook(ResponseModel):
    """The message that a `webhook_url` gets."""

    type: Literal["job.succeeded", "job.failed", "job.cancelled"]
    timestamp: Time
    data: Job
