"""The routes about the server itself, by their endpoints."""

from __future__ import annotations

from api.auth.access import Access
from api.reference.operation import HTML, JSON, Answer, Operation, Tag
from api.schemas.server import Health
from common import errors

METRICS_TYPES = ("text/plain", "application/openmetrics-text")

SERVER_OPERATIONS = {
    "health.healthz": Operation(
        id="healthz",
        tag=Tag.OPERATE,
        summary="Tell whether the process is up",
        answers=[Answer("It is.", Health, example={"status": "ok"})],
    ),
    "health.readyz": Operation(
        id="readyz",
        tag=Tag.OPERATE,
        summary="Tell whether a generation could start now",
        answers=[Answer("Redis answers and a worker holds the model.", Health, example={"status": "ready"})],
        errors=(errors.RedisUnavailable, errors.NoWorker, errors.ModelUnavailable),
    ),
    "metrics.show_metrics": Operation(
        id="metrics",
        tag=Tag.OPERATE,
        summary="Give the figures of the API, the queue and every worker to Prometheus",
        answers=[Answer("In the form that the scraper asks for.", media_types=METRICS_TYPES)],
        access=Access.ADMIN,
    ),
    "reference.document": Operation(
        id="openapi",
        tag=Tag.PAGES,
        summary="Describe the API: this document",
        answers=[Answer("OpenAPI 3.1.", media_types=(JSON,))],
    ),
    "pages.docs": Operation(
        id="docs",
        tag=Tag.PAGES,
        summary="Show this document to people",
        answers=[Answer("A page.", media_types=(HTML,))],
    ),
    "pages.index": Operation(
        id="chat",
        tag=Tag.PAGES,
        summary="Talk to the model",
        answers=[Answer("A page.", media_types=(HTML,))],
    ),
}
