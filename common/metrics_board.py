"""What each worker's metrics stand at, in Redis: workers report, and any API process shows all of them.

Every method may raise `redis.exceptions.RedisError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from redis import Redis

from common import keys


@dataclass(frozen=True, slots=True)
class Sample:
    """One series: for a histogram one of its buckets, its sum or its count."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series. `kind` is Prometheus's: gauge, counter, histogram."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


class MetricsBoard:
    """The workers' latest figures. They outlive a worker for their ttl at most."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def put(self, worker_id: str, figures: str, *, ttl_s: float) -> None:
        """Put up a worker's figures, as `to_wire` makes them."""
        self._redis.set(keys.worker_metrics(worker_id), figures, px=int(ttl_s * 1000))

    def keep(self, worker_id: str, *, ttl_s: float) -> bool:
        """Let the figures stand for longer; false where they have gone."""
        return bool(self._redis.pexpire(keys.worker_metrics(worker_id), int(ttl_s * 1000)))

    def read(self, worker_ids: Sequence[str]) -> dict[str, list[Family]]:
        """The figures of those workers that have put some up."""
        if not worker_ids:
            return {}
        found = cast(list[str | None], self._redis.mget([keys.worker_metrics(one) for one in worker_ids]))
        return {one: from_wire(text) for one, text in zip(worker_ids, found, strict=True) if text is not None}


def to_wire(families: Iterable[Family]) -> str:
    """The JSON form."""
    return json.dumps(
        [
            [one.name, one.kind, one.help, [[sample.name, sample.labels, sample.value] for sample in one.samples]]
            for one in families
        ]
    )


def from_wire(text: str) -> list[Family]:
    """Read the JSON form."""
    return [
        Family(name, kind, meaning, [Sample(*sample) for sample in samples])
        for name, kind, meaning, samples in json.loads(text)
    ]
