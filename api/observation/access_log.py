"""One log line per request, when its answer has gone out: a stream's at its end."""

from __future__ import annotations

import logging

from api.observation.exchange import Exchange
from common.observation import context
from common.observation.logs import fields

QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/static/<path:filename>"})  # asked for all the time

log = logging.getLogger(__name__)


class AccessLog:
    """Observes exchanges. No query, header or body is logged: they may hold prompts and keys."""

    def begin(self, exchange: Exchange) -> None:
        """Nothing is known yet."""

    def end(self, exchange: Exchange) -> None:
        """Write the line; those of probes are for DEBUG."""
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
