"""Creates a span per request, within its client's trace. Jobs carry it to their workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.observation.exchange import Exchange
from common.observation import context

if TYPE_CHECKING:
    from common.observation.otel import Span, Tracer

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
IDS = ("request_id", "job_id", "owner")

_SPAN = "slm.span"  # key in the environ


class ServerSpans:
    """Observes exchanges if tracing is on."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(self, exchange: Exchange) -> None:
        """Begin the span, and add it to the context for jobs and log lines."""
        if exchange.path in PROBES:
            return
        span = self._tracer.start(
            exchange.method,
            parent=exchange.environ.get("HTTP_TRACEPARENT"),
            kind="server",
            attributes={"http.request.method": exchange.method, "url.path": exchange.path},
        )
        exchange.environ[_SPAN] = span
        context.add(traceparent=span.traceparent)

    def end(self, exchange: Exchange) -> None:
        """End the span with the outcome of the request."""
        span: Span | None = exchange.environ.get(_SPAN)
        if span is None:
            return
        if exchange.route:
            span.rename(f"{exchange.method} {exchange.route}")
        span.note({"http.route": exchange.route, "http.response.status_code": exchange.status})
        span.note({f"slm.{name}": value for name, value in context.current().items() if name in IDS})
        span.end(error=f"status {exchange.status}" if exchange.status >= 500 else None)
