"""The parts of `Stream` and `AsyncStream` that do no I/O."""

from __future__ import annotations

from slm_client.cursor import StreamCursor
from slm_client.retry import Retry, RetryPolicy


class StreamBase:
    """Knows how far a stream has been read."""

    def __init__(self, cursor: StreamCursor, policy: RetryPolicy) -> None:
        self._cursor = cursor
        self._retry = Retry(policy)

    @property
    def job_id(self) -> str | None:
        """The job's id, known from the first frame on, for `cancel`."""
        return self._cursor.job_id

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event. With it and `job_id`, another process can continue: `follow` of a client."""
        return self._cursor.last_event_id
