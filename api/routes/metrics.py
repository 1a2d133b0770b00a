"""Serves the metrics of the whole server to Prometheus."""

from __future__ import annotations

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from api.auth.access import Access, set_access
from api.current import services
from api.gate import identify
from api.observation.fleet_metrics import FleetMetrics, NoFleet

metrics = Blueprint("metrics", __name__)
set_access(metrics, Access.PUBLIC)  # the view checks the key itself


@metrics.get("/metrics")
def show_metrics() -> Response:
    """Return all metrics to admins, in the text format that the scraper prefers.

    While the job store is away, keys cannot be checked, and this is when metrics matter most. Then everybody gets the
    metrics of this process.
    """
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    registry = CollectorRegistry()
    services().metrics.register_in(registry)
    registry.register(_fleet())
    return Response(encode(registry), content_type=content_type)


def _fleet() -> Collector:
    try:
        identify(Access.ADMIN)
    except RedisError:
        return NoFleet()
    return FleetMetrics(services().redis)
