"""The routes about the server itself, by their endpoints."""

from __future__ import annotations

from api.auth.access import Access
from api.reference.operation import HTML, JSON, Answer, Operation, Tag, simple
from api.schemas.server import Health
from common import errors

METRICS_TYPES = ("text/plain", "application/openmetrics-text")

SERVER_OPERATIONS = {
    "health.healthz": simple(
        "healthz", Tag.OPERATE, "Tell whether the process is up", Answer("It is.", Health, example={"status": "ok"})
    ),
    "health.readyz": simple(
        "readyz",
        Tag.OPERATE,
        "Tell whether a generation could start now",
        Answer("Redis answers and a worker holds the model.", Health, example={"status": "ready"}),
        errors=(errors.RedisUnavailable, errors.NoWorker, errors.ModelUnavailable),
    ),
    "metrics.show_metrics": Operation(
        id="metrics",
        tag=Tag.OPERATE,
        summary="Give the figures of the API, the queue and every worker to Prometheus",
        answers=[Answer("In the form that the scraper asks for.", media_types=METRICS_TYPES)],
        access=Access.ADMIN,
    ),
    "reference.document": simple(
        "openapi", Tag.PAGES, "Describe the API: this document", Answer("OpenAPI 3.1.", media_types=(JSON,))
    ),
    "pages.docs": simple("docs", Tag.PAGES, "Show this document to people", Answer("A page.", media_types=(HTML,))),
    "pages.index": simple("chat", Tag.PAGES, "Talk to the model", Answer("A page.", media_types=(HTML,))),
}
