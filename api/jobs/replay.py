"""Merges the events that a reader missed into a few, instead of one per token. Does no I/O.

Each frame of a stream repeats the answer from its beginning, so one frame per token costs the square of the answer's
length. That is acceptable while the model generates, but not if all tokens exist already.
"""

from __future__ import annotations

from typing import TypeVar

from common.jobs import events
from common.jobs.event_log import READ_CHUNK
from common.jobs.events import Event, EventType

FEW = 64  # up to this many events are not merged

T = TypeVar("T")


class Replay:
    """Merges the token events that existed when the reader came.

    A merged event has the seq of its last event, and contains as many events as all before it together. So all frames
    together are only a few times as long as the answer.

    Args:
        after: the seq of the last event that the reader has seen.
        present: the number of events when the reader came.
    """

    def __init__(self, after: int, present: int) -> None:
        self._last_returned = after
        self._present = present if present - after - 1 > FEW else 0
        self._unmerged: list[Event] = []

    def take(self, update: Event | T) -> list[Event | T]:
        """Return the updates for the reader after this one; none while more existing events are expected."""
        if not isinstance(update, Event) or update.type is not EventType.TOKEN or not self._is_past(update.seq):
            return [*self._merge(), update]
        self._unmerged.append(update)
        if update.seq == self._present - 1 or self._is_long(update):
            return [*self._merge()]
        if len(self._unmerged) == READ_CHUNK:
            self._unmerged = [events.merged(self._unmerged)]
        return []

    def _is_past(self, seq: int) -> bool:
        """Return whether the event existed, but is new to the reader.

        An event that the reader has seen comes again if Redis lost it and another attempt repeated it.
        """
        return self._last_returned < seq < self._present

    def _is_long(self, last: Event) -> bool:
        """Return whether enough events are collected. Log probabilities are far larger than the repeated text."""
        count = last.seq - self._last_returned
        return count >= READ_CHUNK and (count >= self._last_returned or "logprobs" in last.data)

    def _merge(self) -> list[Event]:
        if not self._unmerged:
            return []
        merged = events.merged(self._unmerged)
        self._unmerged, self._last_returned = [], merged.seq
        return [merged]
