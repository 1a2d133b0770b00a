"""A worker's part of a request's trace: the wait in the queue, and the attempt with its prefill and decode."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.jobs.active import ActiveJob
from worker.observation.metrics import Timeline

if TYPE_CHECKING:
    from common.observation.otel import Span, Tracer


class AttemptTrace:
    """The trace of one attempt; without a span it does nothing."""

    def __init__(self, tracer: Tracer | None, span: Span | None) -> None:
        self._tracer = tracer
        self._span = span

    def note_engine(self, timeline: Timeline) -> None:
        """Add the times of the attempt's tokens, after it has left the engine."""
        if self._tracer is None or self._span is None or timeline.first_token_at is None:
            return
        parent = self._span.traceparent
        self._span.note({f"slm.{name}": value for name, value in timeline.model._asdict().items()})
        self._span.mark("first_token", timeline.first_token_at)
        self._tracer.start("prefill", parent=parent, at=timeline.submitted_at).end(at=timeline.first_token_at)
        self._tracer.start("decode", parent=parent, at=timeline.first_token_at).end(at=timeline.last_token_at)


class Traces:
    """Traces attempts.

    Args:
        tracer: creates the spans; None if tracing is off.
    """

    def __init__(self, tracer: Tracer | None, worker_id: str) -> None:
        self._tracer = tracer
        self._worker_id = worker_id

    @contextmanager
    def attempt(self, job: ActiveJob) -> Iterator[AttemptTrace]:
        """Trace an attempt for the duration of a `with` block; an exception that leaves the block is its failure."""
        if self._tracer is None:
            yield AttemptTrace(None, None)
            return
        span = self._begin(self._tracer, job)
        error: str | None = None
        try:
            yield AttemptTrace(self._tracer, span)
        except BaseException as err:
            error = type(err).__name__
            raise
        finally:
            span.end(error=error)

    def _begin(self, tracer: Tracer, job: ActiveJob) -> Span:
        parent, now = job.job.traceparent, time.monotonic()
        if job.attempt == 1:
            tracer.start("queue", parent=parent, at=now - job.age_s).end(at=now)
        ids = {f"slm.{name}": value for name, value in job.log_fields.items()}
        attributes = ids | {"slm.worker": self._worker_id}
        return tracer.start(job.job.kind.task_name, parent=parent, kind="consumer", at=now, attributes=attributes)
