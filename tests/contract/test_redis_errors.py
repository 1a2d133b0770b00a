"""How failures of Redis are reported to a client."""

from __future__ import annotations

import pytest
import redis.exceptions
from redis import Redis
from redis.exceptions import RedisError

from common.fleet import Fleet, WorkerReport
from common.jobs import events
from common.jobs.job import JobKind, JobState
from common.jobs.store import JobOptions, JobStore
from common.redis.client import explain

SCRIPT = "ERR Error running script (call to f_1): @user_script:3: "  # the wording of Redis 6


@pytest.mark.parametrize(
    ("err", "code"),
    [
        (redis.exceptions.ConnectionError("refused"), "redis_unavailable"),
        (redis.exceptions.TimeoutError("5 s"), "redis_unavailable"),
        (redis.exceptions.BusyLoadingError("loading the dataset"), "redis_unavailable"),
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), "redis_unavailable"),
        (redis.exceptions.ResponseError("MISCONF Errors writing to the AOF file"), "redis_unavailable"),
        (  # to WAIT, if the server becomes a replica
            redis.exceptions.ResponseError(
                "Command # 3 (WAIT 1 1000) of pipeline caused error: UNBLOCKED force unblock"
            ),
            "redis_unavailable",
        ),
        (redis.exceptions.ResponseError("BUSY Redis is busy running a script"), "redis_unavailable"),
        (redis.exceptions.ResponseError(f"{SCRIPT}-READONLY You can't write"), "redis_unavailable"),
        (redis.exceptions.OutOfMemoryError("command not allowed"), "redis_full"),
        (
            redis.exceptions.ResponseError(f"{SCRIPT}-OOM command not allowed when used memory > 'maxmemory'"),
            "redis_full",
        ),
        (redis.exceptions.ResponseError("user_script:1: attempt to index a nil value"), "internal_error"),
        (redis.exceptions.ResponseError("WRONGTYPE Operation against a key"), "internal_error"),
        (redis.exceptions.NoPermissionError("this user has no permissions"), "internal_error"),
    ],
    ids=str,
)
def test_failures_are_distinguished_from_bugs(err: RedisError, code: str) -> None:
    meaning = explain(err)
    assert meaning.code == code
    assert (meaning.retry_after_s is not None) == meaning.retryable


def test_a_full_redis_refuses_a_job_completely(real_redis: Redis) -> None:
    store = JobStore(real_redis, lambda _: None, job_ttl_s=600)
    Fleet(real_redis).beat(WorkerReport("w", "h", 1, slots=1), ttl_s=600)
    keys = set(real_redis.keys())
    real_redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisError) as refused:
            store.submit("a", JobKind.LOAD, {}, owner="o", max_queue=1)
        assert explain(refused.value).code == "redis_full"
        assert set(real_redis.keys()) == keys
    finally:
        real_redis.config_set("maxmemory", 0)


def test_a_full_redis_still_finds_the_job_of_a_repeat(real_redis: Redis) -> None:
    store = JobStore(real_redis, lambda _: None, job_ttl_s=600)
    Fleet(real_redis).beat(WorkerReport("w", "h", 1, slots=1), ttl_s=600)
    options = JobOptions(idempotency_key="k", fingerprint="f")
    store.submit("a", JobKind.GENERATE, {}, owner="o", max_queue=1, options=options)
    real_redis.config_set("maxmemory", 1)
    try:
        assert store.submit("b", JobKind.GENERATE, {}, owner="o", max_queue=1, options=options).job_id == "a"
    finally:
        real_redis.config_set("maxmemory", 0)


def test_a_full_redis_still_keeps_and_ends_the_jobs_it_has(real_redis: Redis) -> None:
    store, fleet = JobStore(real_redis, lambda _: None, job_ttl_s=600), Fleet(real_redis)
    worker = WorkerReport("w", "h", 1, slots=2)
    fleet.beat(worker, ttl_s=600)
    for name in ("a", "b"):
        store.submit(name, JobKind.GENERATE, {}, owner="o", max_queue=9)
        store.claim(name, "w", lease_s=600)
    real_redis.config_set("maxmemory", 1)
    try:
        fleet.beat(worker, ttl_s=600)
        assert store.renew([("a", 1), ("b", 1)], lease_s=600) == (set(), set())
        store.succeed("a", 1, {}, [events.finished(0, JobState.SUCCEEDED)])
        store.release("b", 1)
    finally:
        real_redis.config_set("maxmemory", 0)
    assert [store.get(name).state for name in ("a", "b")] == [JobState.SUCCEEDED, JobState.QUEUED]
