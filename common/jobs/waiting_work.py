"""Reads how much work waits and for how long: what the number of workers should follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from redis import Redis

from common.redis import keys

LOOKED_AT = 1000  # jobs of a lane that are read: the next ones to run


@dataclass(frozen=True, slots=True)
class WaitingWork:
    """The work that waits in a lane. Of a lane with more than `LOOKED_AT` jobs, the next ones stand for all.

    `tokens`: the most that the jobs may need, prompts and answers. `oldest_s`: seconds since the oldest was created.
    """

    tokens: float = 0.0
    oldest_s: float = 0.0


def read_waiting_work(redis: Redis, waiting: Mapping[str, int]) -> dict[str, WaitingWork]:
    """Return the work by lane, of the lanes with that many waiting jobs. May raise `redis.exceptions.RedisError`."""
    return {lane: _read(redis, lane, count) if count else WaitingWork() for lane, count in waiting.items()}


def _read(redis: Redis, lane: str, count: int) -> WaitingWork:
    with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for job_id in cast(list[str], redis.zrange(keys.pending(lane), 0, LOOKED_AT - 1)):
            pipe.hmget(keys.job(job_id), "cost", "created_ms")
        (seconds, microseconds), *read = pipe.execute()
    jobs = [(float(cost), int(created_ms)) for cost, created_ms in read if cost and created_ms]  # the others just ended
    if not jobs:
        return WaitingWork()
    now_ms = seconds * 1000 + microseconds // 1000
    tokens = sum(cost for cost, _ in jobs) / len(jobs) * count
    return WaitingWork(tokens, (now_ms - min(created_ms for _, created_ms in jobs)) / 1000)
