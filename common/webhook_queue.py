"""The webhooks that are due, in Redis. They are lent out: what a process that died had taken comes back by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from redis import Redis

from common.jobs import WebhookState
from common.scripts import Argument, Script

MAX_ERROR_CHARS = 200
LOOK_AT = 1000  # of an owner's due webhooks, at a time


@dataclass(frozen=True, slots=True)
class Lent:
    """An ended job whose webhook is to be sent now, for the `attempt`-th time (from 1).

    `owner` and `receiver` (host and port) are the names of whoever has a share of the attempts.
    """

    job_id: str
    attempt: int
    owner: str
    receiver: str


@dataclass(frozen=True, slots=True)
class Shares:
    """How many attempts there may be at once: in all, of one owner, to one receiver."""

    total: int
    owner: int
    receiver: int


class WebhookQueue:
    """Take, and say what became of it. Every method may raise `redis.exceptions.RedisError`.

    Args:
        redis: connection (with `decode_responses`).
        job_ttl_s: how long a job can still be read after its webhook.
    """

    def __init__(self, redis: Redis, *, job_ttl_s: int) -> None:
        self._redis = redis
        self._job_ttl_s = job_ttl_s
        self._take, self._settle = Script(redis, "webhook_take"), Script(redis, "webhook_settle")

    def take(self, shares: Shares, going_on: Collection[Lent] = (), *, lease_s: float) -> list[Lent]:
        """The webhooks that are due, as far as there is room beside those `going_on`.

        Nobody else gets them for `lease_s` seconds.
        """
        if (room := shares.total - len(going_on)) <= 0:
            return []
        names = Counter(name for lent in going_on for name in (lent.owner, lent.receiver))
        counts: list[Argument] = [part for pair in names.items() for part in pair]
        lease_ms = int(lease_s * 1000)
        flat = self._take(room, lease_ms, shares.owner, shares.receiver, LOOK_AT, *counts)
        return [
            Lent(job_id, int(attempt), owner, receiver)
            for job_id, attempt, owner, receiver in zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
        ]

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
        self._settle(lent.job_id, lent.attempt, state, error[:MAX_ERROR_CHARS], int(delay_s * 1000), self._job_ttl_s)
