"""How far a stream has been read, and how to go on from there. Does no I/O: both clients' streams stand on it."""

from __future__ import annotations

import json
from typing import Any

import httpx
from httpx_sse import ServerSentEvent

from slm_client import call
from slm_client.call import Call
from slm_client.errors import BadAnswer, ConnectionLost
from slm_client.frame import Frame, is_terminal, read_frame


class StreamCursor:
    """Drops what was seen; knows the next request.

    Args:
        first: opens the stream. It is repeated until an answer names the job: its Idempotency-Key makes that safe.
        job_id: the job, where it is known beforehand.
        last_event_id: the event that was seen last, where a stream of somebody else's goes on.
    """

    def __init__(self, first: Call, *, job_id: str | None = None, last_event_id: str | None = None) -> None:
        self.job_id = job_id
        self.last_event_id = last_event_id
        self.is_over = False
        self._first = first

    def next_call(self) -> Call:
        """What opens the stream at the first event that was not seen."""
        return self._first if self.job_id is None else call.follow(self.job_id, self.last_event_id)

    def opened(self, response: httpx.Response) -> bool:
        """Note what a success's head says; returns whether events come. With 204 none does: all were seen.

        Raises:
            BadAnswer: it is no stream.
        """
        self.job_id = response.headers.get("X-Job-Id", self.job_id)
        self.is_over = response.status_code == httpx.codes.NO_CONTENT
        if not self.is_over and not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise BadAnswer(f"{response.url} did not answer with a stream of events.")
        return not self.is_over

    def take(self, event: ServerSentEvent) -> Frame | None:
        """The event's frame; None for a heartbeat and for what was seen.

        Raises:
            ApiError: the job failed.
            BadAnswer: this is no event of the API.
        """
        if not event.data:
            return None  # httpx-sse makes an event of a comment once there was an id
        data = _object(event.data)
        if (number := self._number(event, data)) is not None:
            if number <= self._seen and not is_terminal(data):  # httpx-sse lends an error without a number the last one
                return None
            self.last_event_id = event.id
        self.is_over = is_terminal(data)
        return read_frame(data)

    def broke_off(self) -> ConnectionLost:
        """The stream ended before the job did."""
        return ConnectionLost(f"The stream of job {self.job_id} ended before the job did.")

    @property
    def _seen(self) -> int:
        return -1 if self.last_event_id is None else int(self.last_event_id)

    def _number(self, event: ServerSentEvent, data: dict[str, Any]) -> int | None:
        """A move in line has no number of its own; httpx-sse lends it that of the event before."""
        if "estimated_wait_s" in data or not event.id:
            return None
        if not event.id.isdecimal():
            raise BadAnswer(f"{event.id[:60]!r} is no id of an event.")
        return int(event.id)


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as err:
        raise BadAnswer(f"An event is not JSON: {text[:60]!r}") from err
    if not isinstance(data, dict):
        raise BadAnswer(f"An event is no JSON object: {text[:60]!r}")
    return data
