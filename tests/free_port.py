"""Finds a free port for a test's server."""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 16_384, 32_767  # below the ports that systems give to clients, which could take it before the server
ATTEMPTS = 100

_random = random.SystemRandom()  # not the one that tests seed: processes that run at once must not agree


def free_port() -> int:
    """Return a loopback port that is free now."""
    ports = (_random.randint(LOWEST, HIGHEST) for _ in range(ATTEMPTS))
    return next(filter(_is_free, ports))


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
