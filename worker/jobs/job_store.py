"""The job store as a worker, a trainer or an embedder uses it."""

from __future__ import annotations

from redis import Redis

from common.jobs.store import Dispatch, JobStore
from common.settings import Settings


def job_store(settings: Settings, redis: Redis, dispatch: Dispatch) -> JobStore:
    """Return the store of the jobs in `redis`; `dispatch` sends wake-up messages and must not raise."""
    return JobStore(redis, dispatch, job_ttl_s=settings.job_ttl_s, has_queues=settings.redis_has_queues)
