"""Stores the reports of the live trainers, the processes that run training and evaluation jobs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from redis import Redis

from common.jobs.job import Lane
from common.specialists import Specialists
from common.wire import known_fields


@dataclass(frozen=True, slots=True)
class TrainerReport:
    """The report of one trainer. `job_id` is the job that it runs; `device` is as in the settings."""

    id: str
    host: str
    pid: int
    device: str
    job_id: str | None = None
    takes_jobs: bool = True

    def to_json(self) -> str:
        """Return the JSON form; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrainerReport:
        """Parse the JSON form."""
        return cls(**known_fields(cls, json.loads(text)))


class Trainers:
    """Reads and writes the live trainers in Redis. Every method may raise `RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._trainers = Specialists(redis, "trainer", Lane.TRAIN)

    def beat(self, report: TrainerReport, *, ttl_s: float) -> None:
        """Publish a trainer's report; it counts as alive for `ttl_s` seconds."""
        self._trainers.beat(report.id, report.to_json(), places=int(report.takes_jobs), ttl_s=ttl_s)

    def leave(self, trainer_id: str) -> None:
        """Remove a trainer that shuts down normally."""
        self._trainers.leave(trainer_id)

    def live(self) -> list[TrainerReport]:
        """Return the reports of the trainers that take jobs, oldest heartbeat first."""
        return [TrainerReport.from_json(text) for text in self._trainers.reports()]
