"""Writes one log line per request, after its response has been sent; for a stream, at its end."""

from __future__ import annotations

import logging

from api.observation.exchange import Exchange
from common.observation import context
from common.observation.logs import fields

QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/static/<path:filename>"})  # requested all the time

log = logging.getLogger(__name__)


class AccessLog:
    """Observes exchanges. Queries, headers and bodies are not logged, because they may contain prompts and keys."""

    def begin(self, exchange: Exchange) -> None:
        """Do nothing yet."""

    def end(self, exchange: Exchange) -> None:
        """Write the line, at level DEBUG for probes."""
        duration_ms = round(exchange.duration_s * 1000, 1)
        log.log(
            logging.DEBUG if exchange.route in QUIET else logging.INFO,
            "%s %s %d %.1f ms %d bytes %s",
            exchange.method,
            exchange.path,
            exchange.status,
            duration_ms,
            exchange.size,
            context.current().get("owner", "-"),
            extra=fields(
                method=exchange.method,
                path=exchange.path,
                status=exchange.status,
                duration_ms=duration_ms,
                bytes=exchange.size,
            ),
        )
