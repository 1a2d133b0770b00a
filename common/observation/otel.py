"""A thin wrapper around OpenTelemetry spans. Imported only if tracing is on."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Attributes = Mapping[str, str | int | float | bool]
Kind = Literal["internal", "server", "consumer"]

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER}

_W3C = TraceContextTextMapPropagator()


class Span:
    """A span. Times are seconds of this process's monotonic clock; the default is now."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """The parent id for child spans in any process (W3C Trace Context)."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._span, Context()))
        return carrier["traceparent"]

    def rename(self, name: str) -> None:
        """Change the name of the span."""
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(dict(attributes))

    def mark(self, event: str, at: float | None = None) -> None:
        """Add an event to the span."""
        self._span.add_event(event, timestamp=_epoch_ns(at))

    def end(self, *, at: float | None = None, error: str | None = None) -> None:
        """End the span; `error` says why it failed, if it did."""
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end(_epoch_ns(at))


class Tracer:
    """Creates spans. They are sent in the background; spans that the collector does not accept are dropped."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("slm")

    @classmethod
    def exporting_to(cls, endpoint: str, service: str) -> Tracer:
        """Return a tracer that sends to the OTLP/HTTP collector at that base URL."""
        identity = {"service.name": service, "service.instance.id": f"{socket.gethostname()}:{os.getpid()}"}
        provider = TracerProvider(resource=Resource.create(identity))
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider)

    def start(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: Kind = "internal",
        at: float | None = None,
        attributes: Attributes | None = None,
    ) -> Span:
        """Start a span, as a child of `parent` if that is a `traceparent`, otherwise as a root span."""
        around = _W3C.extract({"traceparent": parent} if parent else {}, Context())
        span = self._tracer.start_span(name, around, _KINDS[kind], attributes, start_time=_epoch_ns(at))
        return Span(span)

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.shutdown()


def _epoch_ns(at: float | None) -> int:
    """Convert a time of the monotonic clock to ns since the epoch."""
    ago_s = 0.0 if at is None else time.monotonic() - at
    return time.time_ns() - int(ago_s * 1e9)
