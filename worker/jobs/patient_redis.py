"""A Redis client for the threads that run jobs: while Redis is away or refuses writes, a job waits."""

from __future__ import annotations

import threading
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from common.redis.client import may_pass
from common.redis.outage import Outage

RETRY_S = 0.5
_WAITING = "jobs wait"


class PatientRedis(Redis):
    """Repeats each command until Redis accepts it, which is safe because all writes are idempotent. Not for pipelines.

    Args:
        redis: its connection pool is used.
        outage: notes the failures.
    """

    def __init__(self, redis: Redis, outage: Outage) -> None:
        super().__init__(connection_pool=redis.connection_pool)
        self._outage = outage
        self._has_ended = threading.Event()

    def end_patience(self) -> None:
        """Let all commands fail on the first error from now on, also those that wait: the process is about to end."""
        self._has_ended.set()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return the reply.

        Raises:
            RedisError: the command can never succeed, or patience has ended.
        """
        while True:
            try:
                reply = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except RedisError as err:
                if self._has_ended.is_set() or not may_pass(err):
                    raise
                self._outage.note_failure(_WAITING, err)
                self._has_ended.wait(RETRY_S)
            else:
                self._outage.note_success(_WAITING)
                return reply
