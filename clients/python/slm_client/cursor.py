"""Tracks the reading position in a stream and how to continue from there. Does no I/O; shared by both clients."""

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
    """The reading position: drops duplicate events and knows the next request.

    Args:
        first: opens the stream. Repeated until a response has the job's id; its Idempotency-Key makes that safe.
        job_id: the job's id, if it is already known.
        last_event_id: the last event received, if this continues an earlier stream.
    """

    def __init__(self, first: Call, *, job_id: str | None = None, last_event_id: str | None = None) -> None:
        self.job_id = job_id
        self.last_event_id = last_event_id
        self.is_over = False
        self._first = first

    def next_call(self) -> Call:
        """Return the request that opens the stream at the first new event."""
        return self._first if self.job_id is None else call.follow(self.job_id, self.last_event_id)

    def opened(self, response: httpx.Response) -> bool:
        """Read the headers of a successful response; returns whether events follow. With 204 there are no new events.

        Raises:
            BadAnswer: it is not a stream.
        """
        self.job_id = response.headers.get("X-Job-Id", self.job_id)
        self.is_over = response.status_code == httpx.codes.NO_CONTENT
        if not self.is_over and not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise BadAnswer(f"The answer of {response.url} is not a stream of events.")
        return not self.is_over

    def take(self, event: ServerSentEvent) -> Frame | None:
        """Return the event's frame; None for a heartbeat or a duplicate.

        Raises:
            ApiError: the job failed.
            BadAnswer: this is not an event of the API.
        """
        if not event.data:
            return None  # after the first id, httpx-sse turns comments into events
        data = _object(event.data)
        if (number := self._number(event, data)) is not None:
            if number <= self._seen and not is_terminal(data):  # httpx-sse gives an error without id the previous id
                return None
            self.last_event_id = event.id
        self.is_over = is_terminal(data)
        return read_frame(data)

    def broke_off(self) -> ConnectionLost:
        """Return the error for a stream that ended before the job did."""
        return ConnectionLost(f"The stream of job {self.job_id} ended before the job did.")

    @property
    def _seen(self) -> int:
        return -1 if self.last_event_id is None else int(self.last_event_id)

    def _number(self, event: ServerSentEvent, data: dict[str, Any]) -> int | None:
        """Return the event's number; None for a queue position, to which httpx-sse gives the previous event's id."""
        if "estimated_wait_s" in data or not event.id:
            return None
        if not event.id.isdecimal():
            raise BadAnswer(f"{event.id[:60]!r} is not the id of an event.")
        return int(event.id)


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as err:
        raise BadAnswer(f"An event is not JSON: {text[:60]!r}") from err
    if not isinstance(data, dict):
        raise BadAnswer(f"An event is not a JSON object: {text[:60]!r}")
    return data
