"""Defines the API's own metrics: requests, and failures of Redis.

Several gunicorn workers write them to files, and any worker can add them up: prometheus_client's multiprocess mode,
which `gunicorn_conf.py` turns on. Otherwise they stay in the memory of the process.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from api.observation.exchange import Exchange
from common.redis.failures import RedisTrouble

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own variable
DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # clients may send any other word


class ApiMetrics:
    """Observes exchanges. Created once per process, before it connects to Redis."""

    def __init__(self) -> None:
        own = self._own = CollectorRegistry()
        self._requests = Counter("slm_http_requests", "Requests answered.", ["method", "route", "status"], registry=own)
        self._durations = Histogram(
            "slm_http_request_duration_seconds",
            "Time from a request's head to the last byte of its response.",
            ["method", "route"],
            buckets=DURATIONS_S,
            registry=own,
        )
        self._in_progress = Gauge(
            "slm_http_requests_in_progress",
            "Requests being answered, including open streams.",
            multiprocess_mode="livesum",
            registry=own,
        )
        errors = Counter("slm_redis_errors", "Failed attempts of the API to reach Redis.", registry=own)
        reconnects = Counter("slm_redis_reconnects", "Times Redis answered the API again after failures.", registry=own)
        self.redis_trouble = RedisTrouble(errors.inc, reconnects.inc)

    def begin(self, exchange: Exchange) -> None:
        """Count the request as in progress."""
        del exchange
        self._in_progress.inc()

    def end(self, exchange: Exchange) -> None:
        """Count and time the request."""
        method = exchange.method if exchange.method in METHODS else "other"
        self._in_progress.dec()
        self._requests.labels(method, exchange.route, str(exchange.status)).inc()
        self._durations.labels(method, exchange.route).observe(exchange.duration_s)

    def register_in(self, registry: CollectorRegistry) -> None:
        """Make the registry collect the metrics of all API processes on this machine."""
        if MULTIPROCESS_DIR in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry.register(self._own)
