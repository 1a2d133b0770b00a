"""Whether a server may start where it listens: among other machines it must know who they are."""

from __future__ import annotations

from redis import Redis

from common.api_keys import ApiKeyStore
from common.settings import Settings


class InsecureBinding(Exception):
    """Other machines can reach the server, and nothing says who may use it; the text says what to do."""


def check_binding(settings: Settings, redis: Redis) -> None:
    """Return where who may use the server is settled: by API keys, by where it listens, or by the operator's word.

    Raises:
        InsecureBinding: it is not.
        redis.exceptions.RedisError: the keys cannot be looked up.
    """
    if settings.allows_anonymous or ApiKeyStore(redis).all():
        return
    raise InsecureBinding(
        f"{settings.published_host or settings.host} can be reached from other machines, and there are no API keys: "
        "anyone who connects would be an admin. Create one with "
        "'python -m deploy.keys create --name me --role admin', or listen on this machine only (--host 127.0.0.1; "
        "gunicorn: -b 127.0.0.1:5000), or pass --insecure (SLM_INSECURE=true) if everybody who can reach this "
        "machine may do everything."
    )
