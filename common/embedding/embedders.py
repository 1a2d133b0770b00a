"""Stores the reports of the live embedders, the processes that compute embeddings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from redis import Redis

from common.jobs.job import Lane
from common.specialists import Specialists
from common.wire import known_fields

PLACES = 16  # jobs that an embedder runs at once; their inputs share its batches


@dataclass(frozen=True, slots=True)
class EmbedderReport:
    """The report of one embedder, with the facts about its model.

    `model` is its name for requests, `digest` the SHA-256 of its files, `dimensions` the length of its vectors,
    `max_tokens` the most of one input, `started` in s since the epoch, `size` of its weights in bytes.
    """

    id: str
    host: str
    pid: int
    device: str
    model: str
    digest: str
    dimensions: int
    max_tokens: int
    size: int
    started: int
    takes_jobs: bool = True

    def to_json(self) -> str:
        """Return the JSON form; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EmbedderReport:
        """Parse the JSON form."""
        return cls(**known_fields(cls, json.loads(text)))


class Embedders:
    """Reads and writes the live embedders in Redis. Every method may raise `RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._embedders = Specialists(redis, "embedder", Lane.EMBED)

    def beat(self, report: EmbedderReport, *, ttl_s: float) -> None:
        """Publish an embedder's report; it counts as alive for `ttl_s` seconds."""
        places = PLACES if report.takes_jobs else 0
        self._embedders.beat(report.id, report.to_json(), places=places, ttl_s=ttl_s)

    def leave(self, embedder_id: str) -> None:
        """Remove an embedder that shuts down normally."""
        self._embedders.leave(embedder_id)

    def live(self) -> list[EmbedderReport]:
        """Return the reports of the embedders that take jobs, oldest heartbeat first."""
        return [EmbedderReport.from_json(text) for text in self._embedders.reports()]
