"""Leases due webhooks from Redis to the processes that send them; the lease of a dead process expires by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from redis import Redis

from common.jobs.job import WebhookState
from common.redis.scripts import Argument, Script

MAX_ERROR_CHARS = 200
LOOK_AT = 1000  # how many of an owner's due webhooks are examined per call


@dataclass(frozen=True, slots=True)
class LeasedWebhook:
    """An ended job with a webhook that is leased to this process, for the `attempt`-th time (from 1).

    `owner` and `receiver` (host and port) are the names by which attempts are limited.
    """

    job_id: str
    attempt: int
    owner: str
    receiver: str


@dataclass(frozen=True, slots=True)
class Shares:
    """The maximum number of concurrent attempts: in total, per owner and per receiver."""

    total: int
    owner: int
    receiver: int


class WebhookQueue:
    """Leases webhooks and records the outcomes. Every method may raise `redis.exceptions.RedisError`.

    Args:
        redis: connection (with `decode_responses`).
        job_ttl_s: how long a job can still be read after its webhook.
    """

    def __init__(self, redis: Redis, *, job_ttl_s: int) -> None:
        self._redis = redis
        self._job_ttl_s = job_ttl_s
        self._take, self._settle = Script(redis, "webhook_take"), Script(redis, "webhook_settle")

    def take(self, shares: Shares, in_flight: Collection[LeasedWebhook] = (), *, lease_s: float) -> list[LeasedWebhook]:
        """Lease due webhooks, as many as the shares allow in addition to those that are `in_flight`.

        No other process gets them for `lease_s` seconds.
        """
        if (room := shares.total - len(in_flight)) <= 0:
            return []
        names = Counter(name for leased in in_flight for name in (leased.owner, leased.receiver))
        counts: list[Argument] = [part for pair in names.items() for part in pair]
        lease_ms = int(lease_s * 1000)
        flat = self._take(room, lease_ms, shares.owner, shares.receiver, LOOK_AT, *counts)
        return [
            LeasedWebhook(job_id, int(attempt), owner, receiver)
            for job_id, attempt, owner, receiver in zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
        ]

    def note_delivered(self, leased: LeasedWebhook) -> None:
        """Record a delivery."""
        self._note(leased, WebhookState.DELIVERED)

    def note_retry(self, leased: LeasedWebhook, error: str, *, delay_s: float) -> None:
        """Record a failed attempt; the webhook is due again in `delay_s` seconds."""
        self._note(leased, WebhookState.PENDING, error, delay_s)

    def note_failed(self, leased: LeasedWebhook, error: str) -> None:
        """Record the final failure; there are no more attempts."""
        self._note(leased, WebhookState.FAILED, error)

    def _note(self, leased: LeasedWebhook, state: WebhookState, error: str = "", delay_s: float = 0) -> None:
        """Record an outcome; has no effect if the webhook was leased again since."""
        self._settle(
            leased.job_id, leased.attempt, state, error[:MAX_ERROR_CHARS], int(delay_s * 1000), self._job_ttl_s
        )
