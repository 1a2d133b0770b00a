"""Checks that a server that other machines can reach requires API keys."""

from __future__ import annotations

from redis import Redis

from common.owners.api_keys import ApiKeyStore
from common.settings import Settings


class InsecureBinding(Exception):
    """Other machines can reach the server without an API key; the text says what to do."""


def check_binding(settings: Settings, redis: Redis) -> None:
    """Check that API keys exist, the server listens on loopback only, or the operator allowed anonymous use.

    Raises:
        InsecureBinding: none of these holds.
        redis.exceptions.RedisError: the keys cannot be looked up.
    """
    if settings.allows_anonymous or ApiKeyStore(redis).all():
        return
    raise InsecureBinding(
        f"{settings.published_host or settings.host} can be reached from other machines, and there are no API keys: "
        "anyone who connects would be an admin. Create one with "
        "'python -m slm keys create --name me --role admin', or listen on this machine only (--host 127.0.0.1; "
        "gunicorn: -b 127.0.0.1:5000), or pass --insecure (SLM_INSECURE=true) if everybody who can reach this "
        "machine may do everything."
    )
