"""The wake-up messages, as they are in the Celery queue."""

from __future__ import annotations

import json
from typing import Any

from celery import Celery
from redis import Redis

from common.jobs.job import JobKind
from common.jobs.store import WakeUp
from common.queue import QUEUE, Dispatcher, configure
from common.settings import Settings
from tests.processes import wait_for
from tests.redis_server import RedisServer


def messages(redis_server: RedisServer, redis: Redis, *wake_ups: WakeUp) -> list[dict[str, Any]]:
    app = configure(Celery("test", set_as_current=False), Settings(redis_url=redis_server.url))
    Dispatcher(app)(wake_ups)
    found = [json.loads(text) for text in redis.lrange(QUEUE, 0, -1)[::-1]]
    for message in found:
        del message["properties"]["delivery_tag"]  # random
    return found


def test_flower_sees_the_model_and_the_base_and_nothing_else_of_the_message_changes(
    redis_server: RedisServer, real_redis: Redis
) -> None:
    named = WakeUp("a", JobKind.GENERATE, "support@3", "smol")
    bare, shown = messages(redis_server, real_redis, WakeUp("a", JobKind.GENERATE), named)
    for part in ("headers", "properties"):  # Celery puts it into both
        assert bare[part]["kwargsrepr"] == "{}"
        bare[part]["kwargsrepr"] = "{'model': 'support@3', 'base': 'smol'}"
    assert shown == bare


def test_a_message_is_all_that_is_sent(redis_server: RedisServer, real_redis: Redis) -> None:
    """Without Celery's event that it was sent, which would cost as much; Flower gets the worker's events."""
    with real_redis.pubsub() as events:
        events.psubscribe("*celeryev/*")
        assert wait_for("the subscription", events.get_message)["type"] == "psubscribe"
        messages(redis_server, real_redis, WakeUp("a", JobKind.GENERATE, "support@3", "smol"))
        real_redis.publish("/0.celeryev/last", "")
        assert wait_for("an event", events.get_message)["channel"] == "/0.celeryev/last"
