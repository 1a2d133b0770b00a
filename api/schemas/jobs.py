"""The bodies of responses about jobs."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field

from api.schemas.adapters import Published
from api.schemas.datasets import DatasetReport
from api.schemas.embedded import Embedded
from api.schemas.errors import JobError
from api.schemas.generated import Generated, ModelUsed, Timings, TokenCounts
from api.schemas.response_model import Count, JobId, ResponseModel, Time
from api.schemas.server import ModelChanged
from api.schemas.tokens import Tokens
from api.schemas.training import Evaluated, Trained, TrainingProgress
from common.jobs.job import JobKind, JobState, WebhookState
from common.owners.api_keys import Role

JobResult = Generated | ModelChanged | Published | Tokens | DatasetReport | Trained | Evaluated | Embedded


class QueueStatus(ResponseModel):
    """The queue position and the estimated wait of a job; both are null if it is not queued."""

    position: Annotated[int | None, Field(description="1 is next; 0: dispatched to a worker")]
    estimated_wait_s: Annotated[float | None, Field(description="estimated seconds until it starts; null if unknown")]


class Accepted(QueueStatus):
    """A job that its client does not wait for."""

    success: Literal[True]
    job_id: JobId
    status: JobState


class JobSummary(ModelUsed):
    """What all listings say about a job."""

    job_id: JobId
    kind: JobKind
    status: JobState
    attempt: Annotated[Count, Field(description="how many times a worker has claimed it")]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class ListedJob(JobSummary):
    """A job in the listing of the newest ones."""

    owner: NotRequired[Annotated[str, Field(description="for admins only")]]


class WebhookStatus(ResponseModel):
    """The delivery state of the job's webhook."""

    state: WebhookState
    attempts: Count
    last_error: str | None


class OfTraining(ResponseModel):
    """The progress of a training run or an evaluation; missing in other jobs."""

    progress: NotRequired[Annotated[TrainingProgress | None, Field(description="null before it starts")]]


class Job(QueueStatus, JobSummary, OfTraining):
    """All details of a job."""

    success: Literal[True]
    text: Annotated[str, Field(description="the answer so far")]
    result: Annotated[JobResult | None, Field(description="the result of an ended job, if it has one")]
    error: JobError | None
    timings: Timings
    webhook: WebhookStatus | None


class JobList(ResponseModel):
    """Jobs, newest first."""

    success: Literal[True]
    jobs: list[ListedJob]


class QuarantinedJob(JobSummary):
    """A job that was set aside because several of its workers died."""

    crashes: Count
    error: JobError | None


class Quarantine(ResponseModel):
    """The dead letters: the jobs that were set aside, oldest first."""

    success: Literal[True]
    jobs: list[QuarantinedJob]


class Dropped(ResponseModel):
    """The job is no longer set aside."""

    success: Literal[True]
    job_id: JobId


class Cancellation(ResponseModel):
    """A job's state after its cancellation."""

    success: Literal[True]
    job_id: JobId
    status: JobState
    cancelling: Annotated[bool, Field(description="whether it still runs and will stop at its next token")]


class Account(TokenCounts):
    """The totals of the caller's ended jobs."""

    success: Literal[True]
    owner: str
    role: Annotated[Role, Field(description="of the caller's key; without keys, everybody is an admin")]
    jobs: Count


class Webhook(ResponseModel):
    """The message that is sent to a `webhook_url`."""

    type: Literal["job.succeeded", "job.failed", "job.cancelled"]
    timestamp: Time
    data: Job
