"""Reads the queue's metrics from Redis: the current lengths and the counters of the whole system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from redis import Redis

from common.jobs.job import Lane
from common.redis import keys


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """The queue's metrics. `waiting` and `running` are jobs by the name of their lane; counters never reset."""

    waiting: Mapping[str, int]
    running: Mapping[str, int]
    dead_letters: int  # number of dead letters now
    ended: Mapping[tuple[str, str], int]  # counters by (kind, state)
    happened: Mapping[str, int]  # counters of failovers, crashes and quarantined


def read_queue_metrics(redis: Redis) -> QueueMetrics:
    """Read the metrics. May raise `redis.exceptions.RedisError`."""
    lanes = sorted({*Lane, *cast(set[str], redis.smembers(keys.LANES))})
    with redis.pipeline(transaction=False) as pipe:
        for lane in lanes:
            pipe.zcard(keys.pending(lane))
        for lane in lanes:
            pipe.zcard(keys.leases(lane))
        pipe.zcard(keys.DEAD_LETTERS)
        pipe.hgetall(keys.COUNTERS)
        *lengths, dead_letters, counted = pipe.execute()
    waiting, running = lengths[: len(lanes)], lengths[len(lanes) :]
    counts = {name: int(value) for name, value in counted.items()}
    return QueueMetrics(
        waiting=dict(zip(lanes, waiting, strict=True)),
        running=dict(zip(lanes, running, strict=True)),
        dead_letters=dead_letters,
        ended={_kind_and_state(name): count for name, count in counts.items() if name.startswith("jobs:")},
        happened={name: counts.get(name, 0) for name in ("failovers", "crashes", "quarantined")},
    )


def _kind_and_state(name: str) -> tuple[str, str]:
    _, kind, state = name.split(":")
    return kind, state
