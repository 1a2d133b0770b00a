"""What the routes under `/slm` answer, field by field: the shapes of `api/answers.py` and `api/frames.py`.

A field with a default can be missing.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel

from api.reference.schema_edits import NeverNull
from common.fleet import WorkerState
from common.jobs import JobKind, JobState, WebhookState

T = TypeVar("T")
Absent = Annotated[T | None, NeverNull()]  # there or missing

Count = Annotated[int, Field(ge=0)]
Ms = Annotated[int, Field(description="milliseconds")]
JobId = Annotated[str, Field(description="names the job under every route, in webhooks and in Flower")]
Time = Annotated[AwareDatetime, Field(description="UTC, with milliseconds")]


class Told(BaseModel):
    """Something that the API says: with no other fields than these."""

    model_config = ConfigDict(extra="forbid")


class Line(Told):
    """Where a job stands in line; two nulls for one that is not queued."""

    position: int | None = Field(description="1 is the next; 0: its turn has come")
    estimated_wait_s: float | None = Field(description="seconds until it begins; null where nobody can tell")


class TokenCounts(Told):
    """Tokens of prompt and answer."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class Timings(Told):
    """How long a job's phases took; null for what has not come yet."""

    queue_ms: Ms | None
    run_ms: Ms | None
    total_ms: Ms | None
    first_token_ms: float | None = Field(description="milliseconds from the begin of the run to the first token")


class Scored(Told):
    """A token and the natural logarithm of its probability, before all settings."""

    token: str = Field(description="as text; U+FFFD stands for a part of a character")
    token_id: Count
    logprob: float
    token_bytes: Absent[list[int]] = Field(None, alias="bytes", description="there where the text does not say all")


class ScoredToken(Scored):
    """A token of the answer, and the most probable ones in its place."""

    top: list[Scored]


class GrammarUsed(Told):
    """What the answer had to look like."""

    kind: str
    source: str


class SamplingUsed(Told):
    """The settings that the answer was drawn with; what is missing had its default."""

    max_new_tokens: int
    temperature: float
    do_sample: bool
    seed: int
    top_p: float
    top_k: int
    repetition_penalty: float
    stop: list[str]
    min_new_tokens: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[str, float] = {}
    logprobs: Absent[int] = None
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    grammar: Absent[GrammarUsed] = None


class PromptMessage(Told):
    """A message of a conversation."""

    role: str
    content: str


class Generated(Told):
    """A complete answer. Of a cancelled generation, what it had so far, with `success` false."""

    success: bool
    prompt: str | list[PromptMessage] | list[int] = Field(description="as it was sent: text, messages or token ids")
    response: str
    full_response: str = Field(description="the prompt as the model saw it, and the answer")
    device: str
    settings: SamplingUsed
    job_id: JobId
    finish_reason: Literal["stop", "length", "cancelled"]
    usage: TokenCounts
    timings: Timings
    logprobs: Absent[list[ScoredToken]] = Field(
        None, description="one per token of the answer, where they were asked for"
    )


class WorkerOutcome(Told):
    """What a worker did about a load or an unload."""

    id: str
    device: str | None
    state: WorkerState


class ModelChanged(Told):
    """The model was loaded or unloaded on every worker."""

    success: bool
    message: str
    device: Absent[str] = Field(None, description="of a load")
    model_path: Absent[str] = Field(None, description="of a load")
    changed: Absent[list[Literal["base", "adapter"]]] = Field(
        None, description="of a load: what is in memory now that was not before, by the content of its files"
    )
    base_id: Absent[str] = Field(None, description="of a load: hash of the base model's files")
    adapter_id: Absent[str] = Field(None, description="of a load with an adapter: hash of the adapter's files")
    job_id: JobId
    workers: list[WorkerOutcome]


class Tokens(Told):
    """What the model sees of a prompt."""

    success: bool
    text: str = Field(description="the prompt as the model sees it")
    tokens: list[str] = Field(description="the text of each; U+FFFD stands for a part of a character")
    ids: list[Count]
    count: Count
    context_length: Count = Field(description="the most tokens that prompt and answer can have together")
    job_id: JobId


class Accepted(Line):
    """A job that goes on without its client."""

    success: Literal[True]
    job_id: JobId
    status: JobState


class Queue(Told):
    """Generations."""

    waiting: Count
    running: Count


class Worker(Told):
    """A live worker."""

    id: str
    host: str | None = Field(description="for admins only")
    pid: int | None = Field(description="for admins only")
    device: str | None
    state: WorkerState
    running: Count
    slots: Count = Field(description="generations it runs at once")
    error: str | None


class Info(Told):
    """What is served, by whom."""

    model_loaded: bool
    device: str | None
    base_model: str | None
    lora_path: str | None
    cuda_available: bool
    mps_available: bool
    queue: Queue
    adapters: list[str]
    workers: list[Worker]
    version: str


class JobSummary(Told):
    """A job in a listing."""

    job_id: JobId
    kind: JobKind
    status: JobState
    attempt: Count = Field(description="how often a worker took it up")
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class JobError(Told):
    """Why a job failed."""

    code: str
    message: str
    param: Absent[str] = None
    retry_after_s: Absent[int] = None


class WebhookStatus(Told):
    """What became of the job's webhook."""

    state: WebhookState
    attempts: Count
    last_error: str | None


class Job(JobSummary, Line):
    """One job in full."""

    success: Literal[True]
    text: str = Field(description="the answer so far")
    result: Generated | ModelChanged | Tokens | None = Field(description="what it has brought, once it has ended")
    error: JobError | None
    timings: Timings
    webhook: WebhookStatus | None


class JobList(Told):
    """Jobs, newest first."""

    success: Literal[True]
    jobs: list[JobSummary]


class QuarantinedJob(JobSummary):
    """A job that was set aside because several of its workers died."""

    crashes: Count
    error: JobError | None


class Quarantine(Told):
    """The jobs that were set aside, oldest first."""

    success: Literal[True]
    jobs: list[QuarantinedJob]


class Dropped(Told):
    """The job is not in quarantine any more."""

    success: Literal[True]
    job_id: JobId


class Cancellation(Told):
    """A job's state after its cancellation."""

    success: Literal[True]
    job_id: JobId
    status: JobState
    cancelling: bool = Field(description="whether it still runs, until its next token")


class Account(TokenCounts):
    """What the caller's ended jobs came to."""

    success: Literal[True]
    owner: str
    jobs: Count


class Health(Told):
    """All is well."""

    status: Literal["ok", "ready"]


class StatusFrame(Told):
    """A line for people, and the job's place in line while it has one."""

    status: str
    position: Absent[int | None] = None
    estimated_wait_s: Absent[float | None] = None


class TextFrame(Told):
    """The next piece of the answer."""

    text: str
    full_text: str = Field(description="the answer so far")
    is_complete: bool
    logprobs: Absent[list[ScoredToken]] = None


class EndFrame(Told):
    """The last frame of a job that did not fail."""

    status: str
    device_used: str | None


class ErrorFrame(Told):
    """The last frame of a job that failed."""

    error: str
    code: str
    request_id: str
    param: Absent[str] = None


class Frame(RootModel[TextFrame | StatusFrame | EndFrame | ErrorFrame]):
    """The data of an event of a job's stream."""


class Webhook(Told):
    """The message that a `webhook_url` gets."""

    type: Literal["job.succeeded", "job.failed", "job.cancelled"]
    timestamp: Time
    data: Job
