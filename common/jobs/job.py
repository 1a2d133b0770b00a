"""Defines jobs: kinds, states, records, parameters and results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from common.errors import Cancelled, SLMError
from common.jobs import prompts
from common.jobs.prompts import Cut, Prompt
from common.jobs.sampling import SamplingParams
from common.wire import known_fields


class Lane(StrEnum):
    """What jobs need from a worker. Jobs with different needs wait in separate queues, the lanes.

    The name of a lane in Redis is its need, and with several base models `:` and the base (`generate:chat`). The
    workers' reports say how many jobs of each lane they run at once (`fleet.WorkerReport.lanes`), and each lane belongs
    to one Celery queue (`queue_of` in `lua/prelude.lua`).
    """

    GENERATE = "generate"  # limited by the workers' free capacity
    PREPARE = "prepare"  # a few at once: preparations (`preparation.py`) and jobs that take no capacity
    CONTROL = "control"  # unlimited: its jobs take no capacity
    TRAIN = "train"  # limited by the number of trainers: each runs one job at a time
    EMBED = "embed"  # limited by the places of the embedders

    @classmethod
    def of(cls, name: str) -> Lane:
        """Return the need of the lane with that name."""
        return cls(name.partition(":")[0])


class JobKind(StrEnum):
    """The kind of a job; `slm.<kind>` is its Celery task."""

    GENERATE = "generate"
    STREAM = "stream"  # a generation that its client reads live; workers treat it like `generate`
    LOAD = "load"
    UNLOAD = "unload"
    PUBLISH = "publish"  # checks an uploaded adapter and registers it
    TOKENIZE = "tokenize"  # shows the tokens of a prompt, or the text of tokens
    CHECK_DATASET = "check_dataset"  # reports what is wrong with a dataset, and what a training would see of it
    TRAIN = "train"  # trains an adapter, judges it and publishes it
    EVALUATE = "evaluate"  # measures models side by side on a dataset
    EMBED = "embed"  # computes the vectors of texts

    @property
    def lane(self) -> Lane:
        """The lane in which jobs of this kind wait after their preparation."""
        if self in (JobKind.GENERATE, JobKind.STREAM):
            return Lane.GENERATE
        if self in (JobKind.TRAIN, JobKind.EVALUATE):
            return Lane.TRAIN
        if self is JobKind.EMBED:
            return Lane.EMBED
        return Lane.PREPARE if self in (JobKind.TOKENIZE, JobKind.CHECK_DATASET) else Lane.CONTROL

    @property
    def takes_prompt(self) -> bool:
        """Whether its params include a prompt (`common.jobs.prompts`)."""
        return self in (JobKind.GENERATE, JobKind.STREAM, JobKind.TOKENIZE)

    @property
    def names_model(self) -> bool:
        """Whether it uses one model, which is resolved when the job is accepted."""
        return self.takes_prompt or self in (JobKind.CHECK_DATASET, JobKind.TRAIN)

    @property
    def task_name(self) -> str:
        """Name of the Celery task for this kind."""
        return f"slm.{self.value}"


class JobState(StrEnum):
    """The state of a job.

        queued ──claim──> running ──finish──> succeeded | failed | cancelled
          │ ^                │
          │ └──release, reap─┘
          └──cancel──> cancelled

    A training run that is queued or running can also be paused; when it is resumed, it is queued again. A terminal
    state is entered once and never left.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self not in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True, slots=True)
class GenerateParams:
    """The parameters of a generate or stream job.

    `notes` are for the API only: it needs them to return the answer in the form that the client requested.
    `tells_prompt_ids`: whether an event has the prompt's tokens. `cut`: how much of the prompt is used; None: all.
    `text_bias`: added to the logits of each token of these texts. `splits_reasoning`: whether the client reads the
    answer without the model's reasoning, so that a grammar applies after it.
    """

    prompt: Prompt
    sampling: SamplingParams
    notes: Mapping[str, Any] = field(default_factory=dict)
    tells_prompt_ids: bool = False
    cut: Cut | None = None
    text_bias: Mapping[str, float] = field(default_factory=dict)
    splits_reasoning: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        wire = prompts.to_wire(self.prompt) | {"sampling": self.sampling.to_dict()}
        wire |= {"tells_prompt_ids": True} if self.tells_prompt_ids else {}
        wire |= {} if self.cut is None else {"cut": asdict(self.cut)}
        wire |= {"text_bias": dict(self.text_bias)} if self.text_bias else {}
        wire |= {"splits_reasoning": True} if self.splits_reasoning else {}
        return wire | {"notes": dict(self.notes)} if self.notes else wire

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> GenerateParams:
        """Parse the JSON form."""
        return cls(
            prompts.from_wire(wire),
            SamplingParams.from_dict(wire["sampling"]),
            wire.get("notes", {}),
            wire.get("tells_prompt_ids", False),
            Cut(**wire["cut"]) if "cut" in wire else None,
            wire.get("text_bias", {}),
            wire.get("splits_reasoning", False),
        )


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """The result of a generation. Counts are tokens; `first_token_ms` counts from the claim of the last attempt.

    `logprobs` are `TokenLogprobs` in wire form, one for each token of the answer; None if they were not requested.
    `prompt_logprobs` are those of the prompt's tokens; the first one's value is 0, and means nothing. `stop_string` is
    the one that ended the answer; `cached_tokens` of the prompt's tokens did not have to be computed, and
    `reasoning_tokens` of the answer's belong to its reasoning (None: it is not split off).
    """

    response: str
    full_response: str
    finish_reason: str
    device: str
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: float | None
    logprobs: list[Any] | None = None
    stop_string: str | None = None
    cached_tokens: int = 0
    prompt_logprobs: list[Any] | None = None
    reasoning_tokens: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back. Some fields are included only if they are set."""
        optional = ("logprobs", "stop_string", "prompt_logprobs", "reasoning_tokens")
        unset = [name for name in optional if getattr(self, name) is None]
        return {name: value for name, value in asdict(self).items() if name not in unset}

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> GenerateResult:
        """Parse the JSON form."""
        return cls(**known_fields(cls, wire))


@dataclass(frozen=True, slots=True)
class TokenizeResult:
    """The tokens of a prompt. `tokens` are the texts of `ids`; U+FFFD replaces bytes that are not a whole character.

    `context_length` is the maximum number of tokens of prompt and answer. If the job `wants` them: `names`, which the
    vocabulary has for the tokens, and facts `about` the tokenizer.
    """

    text: str
    tokens: list[str]
    ids: list[int]
    context_length: int
    names: list[str] | None = None
    about: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back. It includes the tokens charged to the owner's account."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return given | {"prompt_tokens": len(self.ids)}

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> TokenizeResult:
        """Parse the JSON form."""
        return cls(**known_fields(cls, wire))


class Wanted(StrEnum):
    """What a tokenize job can tell beside the tokens; its params list them as `wants`."""

    NAMES = "names"
    ABOUT = "about"


class WebhookState(StrEnum):
    """The delivery state of a job's webhook."""

    PENDING = "pending"  # the job has not ended, or the webhook has not been delivered yet
    DELIVERED = "delivered"
    FAILED = "failed"  # no further attempts


@dataclass(frozen=True, slots=True)
class Webhook:
    """The webhook of a job and its delivery state. `last_error` is the error of the latest attempt."""

    url: str
    state: WebhookState
    attempts: int
    last_error: str | None


# The fields of a job's record that a listing shows.
SUMMARY = (
    "id",
    "kind",
    "lane",
    "owner",
    "state",
    "attempt",
    "crashes",
    "created_ms",
    "started_ms",
    "finished_ms",
    "error",
    "model",
    "base",
    "adapter_id",
)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as stored in Redis. Times are ms since the epoch on the Redis server's clock.

    A job that ended without a result keeps only the notes of its `params`.
    """

    id: str
    kind: JobKind
    lane: Lane  # what it needs now: `PREPARE` while it has to be prepared, else its kind's lane
    owner: str
    params: dict[str, Any]
    state: JobState
    attempt: int
    crashes: int
    created_ms: int
    started_ms: int | None
    finished_ms: int | None
    bulk: bool
    ttl_ms: int | None  # how long it may wait
    timeout_ms: int | None  # how long it may run
    reader_ms: int | None  # how long it continues without a reader; None: until it ends
    webhook: Webhook | None
    result: dict[str, Any] | None
    error: SLMError | None
    model: str = ""  # what it was resolved to when the job was accepted: `support@3`, or the base's name; "": nothing
    base: str = ""  # the name of the base model
    adapter_id: str = ""  # the id of the adapter's version; "": the bare base
    request_id: str | None = None  # of the request that submitted it
    writes: tuple[str, str] | None = None  # the conversation and the message that keep its answer
    traceparent: str | None = None  # parent span of that request (W3C Trace Context), if tracing is on

    @property
    def is_prepared(self) -> bool:
        """Whether it needs no preparation before it runs."""
        return self.lane is self.kind.lane

    @property
    def needs_reader(self) -> bool:
        """Whether the job is cancelled if nobody reads it."""
        return self.reader_ms is not None and not self.state.is_terminal

    def required_result(self) -> dict[str, Any]:
        """Return the result of an ended job.

        Raises:
            SLMError: the job failed with this error.
            Cancelled: the job was cancelled.
        """
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise Cancelled("The job was cancelled.")
        return self.result

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> JobRecord:
        """Parse the hash at `keys.job(id)`."""
        error = _json(fields.get("error"))
        return cls(
            id=fields["id"],
            kind=JobKind(fields["kind"]),
            lane=Lane.of(fields["lane"]),
            owner=fields["owner"],
            params=json.loads(fields.get("params", "{}")) | _notes(fields.get("notes")),
            state=JobState(fields["state"]),
            attempt=max(0, int(fields["attempt"])),  # -1 before the preparation, which is attempt 0
            crashes=int(fields["crashes"]),
            created_ms=int(fields["created_ms"]),
            started_ms=_int(fields.get("started_ms")),
            finished_ms=_int(fields.get("finished_ms")),
            bulk=fields.get("bulk") == "1",
            ttl_ms=_int(fields.get("ttl_ms")),
            timeout_ms=_int(fields.get("timeout_ms")),
            reader_ms=_int(fields.get("reader_ms")),
            webhook=_webhook(fields),
            result=_json(fields.get("result")),
            error=SLMError.from_dict(error) if error else None,
            model=fields.get("model", ""),
            base=fields.get("base", ""),
            adapter_id=fields.get("adapter_id", ""),
            request_id=fields.get("request_id"),
            writes=(fields["conversation"], fields["message"]) if "message" in fields else None,
            traceparent=fields.get("traceparent"),
        )


def _notes(text: str | None) -> dict[str, Any]:
    """Parse the notes, which are stored apart because a job without a result loses its other params when it ends."""
    return {} if text is None else {"notes": json.loads(text)}


def _webhook(fields: Mapping[str, str]) -> Webhook | None:
    if "webhook_url" not in fields:
        return None
    return Webhook(
        url=fields["webhook_url"],
        state=WebhookState(fields.get("webhook_state", WebhookState.PENDING)),
        attempts=int(fields.get("webhook_attempts", 0)),
        last_error=fields.get("webhook_error") or None,
    )


def _int(text: str | None) -> int | None:
    return None if text is None else int(text)


def _json(text: str | None) -> dict[str, Any] | None:
    return None if text is None else dict(json.loads(text))
