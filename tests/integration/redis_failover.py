"""What holds for every kind of Redis that replaces its primary."""

from __future__ import annotations

from typing import Protocol

from common.redis.client import connect
from common.redis.subscriber import Subscriber
from tests.processes import wait_for
from tests.redis_server import RedisServer


class Servers(Protocol):
    """Servers of which one is the primary."""

    @property
    def url(self) -> str:
        """The URL for clients."""
        ...

    @property
    def primary(self) -> RedisServer:
        """The present primary."""
        ...

    def wait_for_successor(self, old: RedisServer) -> None:
        """Wait until another server is the primary."""
        ...


def check_that_a_frozen_primary_is_left(servers: Servers) -> None:
    """Freeze the primary, and check that commands and a subscription go on with its successor."""
    with connect(servers.url) as redis:
        subscriber = Subscriber(redis)
        subscriber.start()
        listener = subscriber.listen("slm:job:1:events")
        redis.set("slm:x", 1)
        primary = servers.primary
        primary.pause()
        try:
            servers.wait_for_successor(primary)
            redis.set("slm:x", 2)

            def hears() -> bool:
                redis.publish("slm:job:1:events", "news")
                return listener.take(0.2)[0] != []

            wait_for("a message from the successor", hears)
            assert redis.get("slm:x") == "2"
        finally:
            primary.resume()
            listener.close()
            subscriber.stop()
