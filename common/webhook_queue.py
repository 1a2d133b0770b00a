"""The webhooks that are due, in Redis. They are lent out: what a process that died had taken comes back by itself."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from common.jobs import WebhookState
from common.scripts import Script

MAX_ERROR_CHARS = 200


@dataclass(frozen=True, slots=True)
class Lent:
    """An ended job whose webhook is to be sent now, for the `attempt`-th time (from 1)."""

    job_id: str
    attempt: int


class WebhookQueue:
    """Take, and say what became of it. Every method may raise `redis.exceptions.RedisError`.

    Args:
        redis: connection (with `decode_responses`).
        job_ttl_s: how long a job can still be read after its webhook.
    """

    def __init__(self, redis: Redis, *, job_ttl_s: int) -> None:
        self._redis = redis
        self._job_ttl_s = job_ttl_s
        self._take, self._settle = Script("webhook_take"), Script("webhook_settle")

    def take(self, limit: int, *, lease_s: float) -> list[Lent]:
        """Up to `limit` webhooks that are due; nobody else gets them for `lease_s` seconds."""
        flat = self._take(self._redis, limit, int(lease_s * 1000))
        return [Lent(job_id, int(attempt)) for job_id, attempt in zip(flat[::2], flat[1::2], strict=True)]

    def note_delivered(self, lent: Lent) -> None:
        """It has arrived."""
        self._note(lent, WebhookState.DELIVERED)

    def note_retry(self, lent: Lent, error: str, *, delay_s: float) -> None:
        """It has not arrived; it is due again in `delay_s` seconds."""
        self._note(lent, WebhookState.PENDING, error, delay_s)

    def note_failed(self, lent: Lent, error: str) -> None:
        """It has not arrived and is not tried again."""
        self._note(lent, WebhookState.FAILED, error)

    def _note(self, lent: Lent, state: WebhookState, error: str = "", delay_s: float = 0) -> None:
        """Without effect when the job was lent to somebody else since."""
        self._settle(
            self._redis, lent.job_id, lent.attempt, state, error[:MAX_ERROR_CHARS], int(delay_s * 1000), self._job_ttl_s
        )
