"""Stores the workers' metrics in Redis: workers report them, and any API process can show all of them.

Every method may raise `redis.exceptions.RedisError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from redis import Redis

from common.redis import keys


@dataclass(frozen=True, slots=True)
class Sample:
    """One series; for a histogram, a bucket, the sum or the count."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series. `kind` is a Prometheus type: gauge, counter or histogram."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


class MetricsStore:
    """Reads and writes the workers' latest metrics, which expire after a ttl."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def put(self, worker_id: str, metrics: str, *, ttl_s: float) -> None:
        """Store a worker's metrics in the form of `to_wire`."""
        self._redis.set(keys.worker_metrics(worker_id), metrics, px=int(ttl_s * 1000))

    def keep(self, worker_id: str, *, ttl_s: float) -> bool:
        """Extend the ttl of the stored metrics; return False if they have expired."""
        return bool(self._redis.pexpire(keys.worker_metrics(worker_id), int(ttl_s * 1000)))

    def read(self, worker_ids: Sequence[str]) -> dict[str, list[Family]]:
        """Return the metrics of the given workers, as far as they are stored."""
        if not worker_ids:
            return {}
        found = cast(list[str | None], self._redis.mget([keys.worker_metrics(one) for one in worker_ids]))
        return {one: from_wire(text) for one, text in zip(worker_ids, found, strict=True) if text is not None}


def to_wire(families: Iterable[Family]) -> str:
    """Return the JSON form."""
    return json.dumps(
        [
            [one.name, one.kind, one.help, [[sample.name, sample.labels, sample.value] for sample in one.samples]]
            for one in families
        ]
    )


def from_wire(text: str) -> list[Family]:
    """Parse the JSON form."""
    return [
        Family(name, kind, meaning, [Sample(*sample) for sample in samples])
        for name, kind, meaning, samples in json.loads(text)
    ]
