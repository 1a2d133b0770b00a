"""The events of a job that a client may see.

A job's events are numbered by `seq`, dense from 0 over all its attempts: the seq of an event is its index in the
job's log. On the wire an event is flask-sse's message: `{"data": {...}, "type": "token", "id": "7"}`.

    type      data                                                     terminal
    queued    position (1 = next in the queue)                         no
    status    status (a line for people), prompt_ids?, and what         no
              `AnswerSyntax.to_dict` lists
    token     text (new piece), ids (the tokens it commits), is_last,  no
              logprobs? (`TokenLogprobs` of each, in wire form)
    progress  of a training run or an evaluation: status (a line for   no
              people), at (s since the epoch), and what `progress` lists
    sample    step, prompt, expected, response, trained, at            no
    checkpoint step, is_best, at: from here a run can be continued     no
    finished  state (succeeded/cancelled), finish_reason, device       yes
    error     code, message, param?                                    yes
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from common.errors import SLMError
from common.jobs.job import JobState
from common.jobs.logprobs import TokenLogprobs
from common.jobs.reasoning import Reasoning


class EventType(StrEnum):
    """The kinds of events; the table above lists the data of each."""

    QUEUED = "queued"
    STATUS = "status"
    TOKEN = "token"  # noqa: S105 - a language model's token, not a secret
    PROGRESS = "progress"
    SAMPLE = "sample"
    CHECKPOINT = "checkpoint"
    FINISHED = "finished"
    ERROR = "error"

    @property
    def is_terminal(self) -> bool:
        """Whether this event ends a job's log."""
        return self in (EventType.FINISHED, EventType.ERROR)


_TYPES = {one.value: one for one in EventType}  # a look-up takes a fifth of the time of `EventType(...)`


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a job's log."""

    seq: int
    type: EventType
    data: dict[str, Any]

    @classmethod
    def from_wire(cls, message: str) -> Event:
        """Parse one message of the log or of the channel."""
        wire = json.loads(message)
        return cls(seq=int(wire["id"]), type=_TYPES[wire["type"]], data=wire["data"])


@dataclass(frozen=True, slots=True)
class AnswerSyntax:
    """How the answer of a job can be split into its parts.

    Args:
        tool_form: the name of the `ToolForm` of its calls; None if it cannot have any.
        reasoning: what it may have before; None if it has none, or the client did not want it to be split off.
    """

    tool_form: str | None = None
    reasoning: Reasoning | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a status event."""
        fields = {} if self.tool_form is None else {"tool_form": self.tool_form}
        return fields | ({} if self.reasoning is None else {"reasoning": self.reasoning.to_dict()})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> AnswerSyntax:
        """Read it from fields as `to_dict` returns them."""
        before = fields.get("reasoning")
        return cls(fields.get("tool_form"), None if before is None else Reasoning.from_dict(before))

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> AnswerSyntax | None:
        """Read it from an event's data; None if that does not have it."""
        return None if data.keys().isdisjoint(("tool_form", "reasoning")) else cls.from_dict(data)


PLAIN = AnswerSyntax()  # the answer is text


def status(seq: int, line: str, syntax: AnswerSyntax = PLAIN, prompt_ids: Sequence[int] | None = None) -> Event:
    """Return a status event: a line for people about the progress.

    `syntax` is that of the answer that follows. `prompt_ids` are the prompt's tokens, if the client wants to know them.
    """
    known = {} if prompt_ids is None else {"prompt_ids": list(prompt_ids)}
    return Event(seq, EventType.STATUS, {"status": line} | syntax.to_dict() | known)


def prompt_ids(events: Iterable[Event]) -> list[int] | None:
    """Return the prompt's tokens; None if the job does not tell them."""
    return next((event.data["prompt_ids"] for event in events if "prompt_ids" in event.data), None)


def answer_syntax(events: Iterable[Event]) -> AnswerSyntax:
    """Return the syntax of the answer that a job's events report."""
    found = (AnswerSyntax.of(event.data) for event in events if event.type is EventType.STATUS)
    return next((syntax for syntax in found if syntax is not None), PLAIN)


def token(
    seq: int,
    text: str,
    ids: Sequence[int],
    *,
    is_last: bool = False,
    logprobs: Sequence[TokenLogprobs] | None = None,
) -> Event:
    """Return a token event: a visible piece of the answer, and the tokens that are committed with it.

    `logprobs` has an entry for each of these tokens, and is None if the client did not ask for them.
    """
    data = {"text": text, "ids": list(ids), "is_last": is_last}
    requested = {} if logprobs is None else {"logprobs": [one.to_wire() for one in logprobs]}
    return Event(seq, EventType.TOKEN, data | requested)


def progress(seq: int, line: str, at: float, facts: Mapping[str, Any]) -> Event:
    """Return a progress event.

    Args:
        seq: its number.
        line: for people.
        at: seconds since the epoch.
        facts: of a run `training.request.Progress.to_json`; of an evaluation `model`, `done` and `total`.
    """
    return Event(seq, EventType.PROGRESS, {"status": line, "at": round(at, 3), **facts})


def sample(seq: int, at: float, facts: Mapping[str, Any]) -> Event:
    """Return a sample event: what the model that is being trained answers now."""
    return Event(seq, EventType.SAMPLE, {"at": round(at, 3), **facts})


def checkpoint(seq: int, at: float, step: int, *, is_best: bool) -> Event:
    """Return a checkpoint event; a run that reached one made progress, whatever happens to its trainer."""
    return Event(seq, EventType.CHECKPOINT, {"at": round(at, 3), "step": step, "is_best": is_best})


def finished(seq: int, state: JobState, finish_reason: str | None = None, device: str | None = None) -> Event:
    """Return the last event of a job that did not fail."""
    return Event(seq, EventType.FINISHED, {"state": state.value, "finish_reason": finish_reason, "device": device})


def error(seq: int, err: SLMError) -> Event:
    """Return the last event of a job that failed."""
    return Event(seq, EventType.ERROR, err.to_dict())


def committed(events: Iterable[Event]) -> tuple[list[int], str]:
    """Return the token ids and the text of the token events: the part that earlier attempts have already shown."""
    ids: list[int] = []
    pieces: list[str] = []
    for event in events:
        if event.type is EventType.TOKEN:
            ids += event.data["ids"]
            pieces.append(event.data["text"])
    return ids, "".join(pieces)


def merged(tokens: Sequence[Event]) -> Event:
    """Merge consecutive token events into one with the seq of the last, so that resuming after it skips them all."""
    ids, text = committed(tokens)
    data = {"text": text, "ids": ids, "is_last": tokens[-1].data["is_last"]}
    logprobs = [one for event in tokens for one in event.data.get("logprobs", ())]
    return Event(tokens[-1].seq, EventType.TOKEN, data | {"logprobs": logprobs} if logprobs else data)
