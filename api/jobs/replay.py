"""What a reader missed of a job, in few events instead of one for each token. Pure.

A frame of a stream repeats the answer from its beginning, so a frame per token costs the square of the answer's length:
bearable while the model makes them, and not when they are all there already.
"""

from __future__ import annotations

from typing import TypeVar

from common.jobs import events
from common.jobs.event_log import READ_CHUNK
from common.jobs.events import Event, EventType

FEW = 64  # so many events are given as they are

T = TypeVar("T")


class Replay:
    """Merges the token events that had happened when the reader came.

    A merged event has the number of the last one in it, and is as long as all before it together: so the frames of all
    of them are together only a few times as long as the answer.

    Args:
        after: the last event that the reader has seen.
        present: how many events there were when it came.
    """

    def __init__(self, after: int, present: int) -> None:
        self._given = after
        self._present = present if present - after - 1 > FEW else 0
        self._held: list[Event] = []

    def take(self, news: Event | T) -> list[Event | T]:
        """What to give the reader now that this has come; nothing while more of the past is on its way."""
        if not isinstance(news, Event) or news.type is not EventType.TOKEN or not self._is_past(news.seq):
            return [*self._release(), news]
        self._held.append(news)
        if news.seq == self._present - 1 or self._is_long(news):
            return [*self._release()]
        if len(self._held) == READ_CHUNK:
            self._held = [events.merged(self._held)]
        return []

    def _is_past(self, seq: int) -> bool:
        """Not what the reader has seen: it comes once more if Redis has lost it and another attempt makes it again."""
        return self._given < seq < self._present

    def _is_long(self, last: Event) -> bool:
        """Log probabilities are so much larger than the text that repeating the text costs nothing beside them."""
        count = last.seq - self._given
        return count >= READ_CHUNK and (count >= self._given or "logprobs" in last.data)

    def _release(self) -> list[Event]:
        if not self._held:
            return []
        merged = events.merged(self._held)
        self._held, self._given = [], merged.seq
        return [merged]
