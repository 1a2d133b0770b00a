"""Describes the routes about the server itself, by their endpoints."""

from __future__ import annotations

from api.auth.access import Access
from api.reference.operation import HTML, JSON, Operation, SuccessResponse, Tag, simple
from api.schemas.server import Health
from common import errors

METRICS_TYPES = ("text/plain", "application/openmetrics-text")

SERVER_OPERATIONS = {
    "health.healthz": simple(
        "healthz",
        Tag.OPERATE,
        "Check whether the process is up",
        SuccessResponse("The process is up.", Health, example={"status": "ok"}),
    ),
    "health.readyz": simple(
        "readyz",
        Tag.OPERATE,
        "Check whether a generation can start now",
        SuccessResponse("Redis answers, and a worker has loaded the model.", Health, example={"status": "ready"}),
        errors=(errors.RedisUnavailable, errors.NoWorker, errors.ModelUnavailable),
    ),
    "metrics.show_metrics": Operation(
        id="metrics",
        tag=Tag.OPERATE,
        summary="Return the metrics of the API, the queue and every worker for Prometheus",
        responses=[SuccessResponse("The metrics, in the format that the scraper requests.", media_types=METRICS_TYPES)],
        access=Access.ADMIN,
    ),
    "reference.document": simple(
        "openapi", Tag.PAGES, "Describe the API: this document", SuccessResponse("OpenAPI 3.1.", media_types=(JSON,))
    ),
    "pages.docs": simple(
        "docs", Tag.PAGES, "Show this document as a page", SuccessResponse("A page.", media_types=(HTML,))
    ),
    "pages.index": simple("chat", Tag.PAGES, "Chat with the model", SuccessResponse("A page.", media_types=(HTML,))),
}
