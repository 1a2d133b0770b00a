"""The frames of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from slm_client.errors import error_from_frame


@dataclass(frozen=True, slots=True)
class Queued:
    """The job waits. `position` 1 is the next job, 0 is about to run; `estimated_wait_s` is None if unknown."""

    position: int
    estimated_wait_s: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """A description of what the worker is doing.

    A training run says now and then what its model answers: `sample` has the `step`, the `prompt`, the `expected`
    answer and the `response`.
    """

    line: str
    sample: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the answer, and the whole text so far (stripped)."""

    piece: str
    full_text: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the stream. `was_cancelled`: somebody cancelled the job, or nobody read it."""

    was_cancelled: bool
    device: str | None


Frame: TypeAlias = Queued | Status | Text | Finished


def is_terminal(data: Mapping[str, Any]) -> bool:
    """Whether the event with this JSON is the last one."""
    return "error" in data or "device_used" in data


def read_frame(data: Mapping[str, Any]) -> Frame:
    """Return the frame of one event's JSON.

    Raises:
        ApiError: the event says that the job failed.
    """
    match data:
        case {"error": _}:
            raise error_from_frame(data)
        case {"text": piece, "full_text": full_text, "is_complete": is_complete}:
            return Text(piece, full_text, is_complete)
        case {"position": position}:
            return Queued(position, data.get("estimated_wait_s"))
        case {"status": line, "device_used": device}:
            return Finished(line == "Cancelled", device)
        case _:
            return Status(str(data.get("status", "")), data.get("sample"))
