"""Stores the reports of processes that serve one lane and no base model: trainers and embedders."""

from __future__ import annotations

from redis import Redis

from common.jobs.job import Lane
from common.redis.scripts import Script


class Specialists:
    """Reads and writes the live processes of one sort in Redis. Every method may raise `RedisError`.

    Args:
        redis: connection (with `decode_responses`).
        what: what they are, a part of their keys.
        lane: the lane that they serve.
    """

    def __init__(self, redis: Redis, what: str, lane: Lane) -> None:
        self._what, self._lane = what, lane
        self._beat, self._leave = Script(redis, "specialist_beat"), Script(redis, "specialist_leave")
        self._reports = Script(redis, "specialists")

    def beat(self, id_: str, report: str, *, places: int, ttl_s: float) -> None:
        """Publish a process's report (JSON); it counts as alive for `ttl_s`, and runs that many jobs at once."""
        self._beat(self._what, self._lane, id_, int(ttl_s * 1000), places, report)

    def leave(self, id_: str) -> None:
        """Remove a process that shuts down normally."""
        self._leave(self._what, id_)

    def reports(self) -> list[str]:
        """Return the reports of those that take jobs, oldest heartbeat first."""
        return [str(text) for text in self._reports(self._what)]
