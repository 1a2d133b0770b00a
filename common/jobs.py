"""What a job is: its kinds, its states, its record, and what travels in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from common import prompts
from common.errors import SLMError
from common.prompts import Prompt
from common.sampling import SamplingParams


class Lane(StrEnum):
    """A waiting line of its own. Its bells are bounded by its own capacity (`lua/prelude.lua`)."""

    GENERATE = "generate"  # bounded by the workers' free slots
    PREPARE = "prepare"  # a few at once: what goes before a slot is taken (`preparation.py`), and what needs none
    CONTROL = "control"  # never waits: nothing in it takes a slot


class JobKind(StrEnum):
    """What a job does; `slm.<kind>` is its Celery task."""

    GENERATE = "generate"
    STREAM = "stream"  # a generation whose client reads along; the worker makes no difference
    LOAD = "load"
    UNLOAD = "unload"
    TOKENIZE = "tokenize"  # shows what the model sees of a prompt, or what tokens say

    @property
    def lane(self) -> Lane:
        """The line in which jobs of this kind wait, once they are prepared."""
        if self in (JobKind.GENERATE, JobKind.STREAM):
            return Lane.GENERATE
        return Lane.PREPARE if self is JobKind.TOKENIZE else Lane.CONTROL

    @property
    def takes_prompt(self) -> bool:
        """Whether its params have a prompt (`common.prompts`)."""
        return self not in (JobKind.LOAD, JobKind.UNLOAD)

    @property
    def task_name(self) -> str:
        """Name of the Celery task that runs it."""
        return f"slm.{self.value}"


class JobState(StrEnum):
    """Where a job is in its life.

        queued ──claim──> running ──finish──> succeeded | failed | cancelled
          │ ^                │
          │ └──release, reap─┘
          └──cancel──> cancelled

    A terminal state is entered once and never left.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class GenerateParams:
    """What a generate or stream job carries to its worker.

    `notes` are the API's own: what it needs to give the answer in the form that the client asked in.
    """

    prompt: Prompt
    sampling: SamplingParams
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` reads it back."""
        wire = prompts.to_wire(self.prompt) | {"sampling": self.sampling.to_dict()}
        return wire | {"notes": dict(self.notes)} if self.notes else wire

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> GenerateParams:
        """Read the JSON form."""
        return cls(prompts.from_wire(wire), SamplingParams.from_dict(wire["sampling"]), wire.get("notes", {}))


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """What a finished generation was. Counts are tokens; `first_token_ms` counts from the claim of the last attempt.

    `logprobs` are `TokenLogprobs` in wire form, one for each token of the answer; None where nobody asked.
    """

    response: str
    full_response: str
    finish_reason: str
    device: str
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: float | None
    logprobs: list[Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` reads it back."""
        wire = asdict(self)
        if self.logprobs is None:
            del wire["logprobs"]
        return wire

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> GenerateResult:
        """Read the JSON form."""
        return cls(**wire)


@dataclass(frozen=True, slots=True)
class TokenizeResult:
    """What the model sees of a prompt. `tokens` are the texts of `ids`; U+FFFD stands for what is no whole character.

    `context_length` is the most tokens that prompt and answer can have.
    """

    text: str
    tokens: list[str]
    ids: list[int]
    context_length: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` reads it back. It also says what the owner's account is charged."""
        return asdict(self) | {"prompt_tokens": len(self.ids)}

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> TokenizeResult:
        """Read the JSON form."""
        return cls(**{one.name: wire[one.name] for one in fields(cls)})


class WebhookState(StrEnum):
    """What became of a job's webhook."""

    PENDING = "pending"  # the job has not ended, or the message has not arrived yet
    DELIVERED = "delivered"
    FAILED = "failed"  # it is not tried any more


@dataclass(frozen=True, slots=True)
class Webhook:
    """Whom to tell that a job has ended, and how that went. `last_error` is the latest attempt's."""

    url: str
    state: WebhookState
    attempts: int
    last_error: str | None


# Of a job's record, what a listing shows.
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
)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as Redis holds it. Times are ms since the epoch on the Redis server's clock.

    A job that has ended without a result has no `params` any more, but for its notes.
    """

    id: str
    kind: JobKind
    lane: Lane  # where it waits or runs now: another than its kind's while it has to be prepared
    owner: str
    params: dict[str, Any]
    state: JobState
    attempt: int
    crashes: int
    created_ms: int
    started_ms: int | None
    finished_ms: int | None
    worker: str | None
    cancel_requested: bool
    bulk: bool
    ttl_ms: int | None  # how long it may wait
    timeout_ms: int | None  # how long it may run
    reader_ms: int | None  # how long it goes on without a reader; None: to its end
    webhook: Webhook | None
    result: dict[str, Any] | None
    error: SLMError | None
    request_id: str | None = None  # of the request that entered it
    traceparent: str | None = None  # that request's place in a trace (W3C Trace Context), where traces are kept

    @property
    def is_prepared(self) -> bool:
        """Whether it has only to be run."""
        return self.lane is self.kind.lane

    @property
    def needs_reader(self) -> bool:
        """Whether the job is cancelled when nobody reads it."""
        return self.reader_ms is not None and not self.state.is_terminal

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> JobRecord:
        """Read the hash at `keys.job(id)`."""
        error = _json(fields.get("error"))
        return cls(
            id=fields["id"],
            kind=JobKind(fields["kind"]),
            lane=Lane(fields["lane"]),
            owner=fields["owner"],
            params=json.loads(fields.get("params", "{}")) | _notes(fields.get("notes")),
            state=JobState(fields["state"]),
            attempt=max(0, int(fields["attempt"])),  # -1 before the preparation, which is attempt 0
            crashes=int(fields["crashes"]),
            created_ms=int(fields["created_ms"]),
            started_ms=_int(fields.get("started_ms")),
            finished_ms=_int(fields.get("finished_ms")),
            worker=fields.get("worker"),
            cancel_requested=fields.get("cancel") == "1",
            bulk=fields.get("bulk") == "1",
            ttl_ms=_int(fields.get("ttl_ms")),
            timeout_ms=_int(fields.get("timeout_ms")),
            reader_ms=_int(fields.get("reader_ms")),
            webhook=_webhook(fields),
            result=_json(fields.get("result")),
            error=SLMError.from_dict(error) if error else None,
            request_id=fields.get("request_id"),
            traceparent=fields.get("traceparent"),
        )


def _notes(text: str | None) -> dict[str, Any]:
    """They are kept apart from the other params, which a job that brought nothing loses at its end."""
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
