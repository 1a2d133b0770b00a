"""When the watchdog fires, on the emulated and on the real Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from common.queue import QUEUE
from worker.liveness.watchdog import STALL_S, Watchdog


class Kennel:
    """A watchdog with a clock and a worker that the test controls."""

    def __init__(self, redis: Redis) -> None:
        self.now = 0.0
        self.is_free = True
        self.fires = 0
        self.redis = redis
        self.dog = Watchdog(redis, [QUEUE, "slm.other"], lambda: self.is_free, self._fire, lambda: self.now)

    def _fire(self) -> None:
        self.fires += 1

    def check_after(self, seconds: float) -> int:
        self.now += seconds
        self.dog.check()
        return self.fires


@pytest.fixture
def kennel(redis: Redis) -> Kennel:
    return Kennel(redis)


def test_it_fires_once_when_wake_ups_wait_although_the_worker_is_free(kennel: Kennel) -> None:
    kennel.redis.lpush(QUEUE, "message")
    assert kennel.check_after(0) == 0
    assert kennel.check_after(STALL_S - 1) == 0
    assert kennel.check_after(1) == 1
    assert kennel.check_after(STALL_S) == 1


def test_an_empty_queue_is_quiet(kennel: Kennel) -> None:
    assert kennel.check_after(0) == 0
    assert kennel.check_after(10 * STALL_S) == 0


def test_a_busy_worker_may_let_wake_ups_wait(kennel: Kennel) -> None:
    kennel.redis.lpush(QUEUE, "message")
    kennel.is_free = False
    kennel.check_after(0)
    assert kennel.check_after(10 * STALL_S) == 0


def test_a_wake_up_that_arrives_starts_the_count_again(kennel: Kennel) -> None:
    kennel.redis.lpush(QUEUE, "message")
    kennel.check_after(0)
    kennel.check_after(STALL_S - 1)
    kennel.dog.note_message()
    assert kennel.check_after(1) == 0
    assert kennel.check_after(STALL_S) == 1
