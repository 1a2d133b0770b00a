"""Checks the Redis server that holds the jobs: whether it keeps what it accepts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from textwrap import shorten
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from common.redis import keys
from common.redis.cluster import is_in_slot
from deploy.doctor.finding import Finding, ok, problem, warning

OLDEST = (6, 2)
SKEW_S = 1.0  # times of jobs are Redis's; those in logs and traces are the machine's
SLOW_S = 0.010  # a token is written with one round trip
FULL = 0.8  # share of the memory limit
_PINGS = 5
_PROBE = """
redis.call('HDEL', KEYS[1], '')
return redis.call('PUBLISH', ARGV[1], '')
"""


def check_job_store(redis: Redis, replicas: int) -> Iterator[Finding]:
    """Check the server, which needs that many replicas. The client should not retry.

    Raises:
        RedisError: it does not answer.
    """
    info = redis.info()
    yield _version(info)
    yield _latency(redis)
    yield _clock(redis)
    yield from _memory(info)
    yield from _configuration(redis)
    yield from _replicas(info, replicas)
    if is_in_slot(redis):
        yield from _coverage(redis)
    yield _role(redis, info)


def _coverage(redis: Redis) -> Iterator[Finding]:
    """Check that a cluster goes on without the masters that have none of our keys."""
    try:
        needs_all = _setting(redis, "cluster-require-full-coverage") == "yes"
    except RedisError:
        return
    if needs_all:
        advice = "Set cluster-require-full-coverage to no: else the loss of a master without our keys stops everything."
        yield warning("Redis cluster", "needs all masters", advice)
    else:
        yield ok("Redis cluster", "needs only the master with our keys")


def _role(redis: Redis, info: Mapping[str, Any]) -> Finding:
    if info.get("cluster_enabled") and not is_in_slot(redis):
        advice = "Let SLM_REDIS_URL begin with redis+cluster:// or rediss+cluster://: docs/redis.md has the form."
        return problem("Redis role", "a node of a cluster", advice)
    if info.get("role") == "slave":
        return problem("Redis role", "a replica, which accepts no writes", "Set SLM_REDIS_URL to the primary.")
    return _writes(redis)


def _writes(redis: Redis) -> Finding:
    """Check that scripts may write our keys and send our messages, with calls that change nothing."""
    try:
        redis.eval(_PROBE, 1, keys.API_KEYS, keys.wake_channel("doctor"))
    except ResponseError as err:
        advice = "It must accept scripts and writes of the user in SLM_REDIS_URL: docs/redis.md has the rights."
        return problem("Redis writes", f"refused ({shorten(str(err), 100)})", advice)
    return ok("Redis writes", "accepted")


def _version(info: Mapping[str, Any]) -> Finding:
    name, text = info.get("server_name", "redis"), str(info.get("redis_version", "0"))
    number = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if number < OLDEST:
        return problem("Redis", f"{name} {text}", f"Use Redis {OLDEST[0]}.{OLDEST[1]} or newer, or Valkey.")
    return ok("Redis", f"{name} {text}")


def _latency(redis: Redis) -> Finding:
    took = min(_timed(redis) for _ in range(_PINGS))
    found = f"{took * 1000:.2f} ms per round trip"
    if took > SLOW_S:
        return warning("Redis latency", found, "Run Redis near the workers: each step of a batch waits for it.")
    return ok("Redis latency", found)


def _timed(redis: Redis) -> float:
    began = time.perf_counter()
    redis.ping()
    return time.perf_counter() - began


def _clock(redis: Redis) -> Finding:
    seconds, microseconds = redis.time()
    skew = abs(time.time() - (seconds + microseconds / 1e6))
    found = f"{skew:.1f} s between this machine and Redis"
    if skew > SKEW_S:
        return warning("clock", found, "Synchronise both clocks (NTP), or times in logs and jobs will not agree.")
    return ok("clock", found)


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if limit == 0:
        advice = "Set maxmemory: without it, a flood of jobs ends in the kernel killing a process."
        yield warning("Redis memory", f"{used / 2**20:.0f} MiB used, no limit", advice)
        return
    found = f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB used"
    if used > FULL * limit:
        yield warning(
            "Redis memory", found, "New jobs are refused when it is full: raise maxmemory (SLM_REDIS_MEMORY)."
        )
    else:
        yield ok("Redis memory", found)


def _configuration(redis: Redis) -> Iterator[Finding]:
    """Check what a managed Redis may not show."""
    try:
        policy, appends = (_setting(redis, name) for name in ("maxmemory-policy", "appendonly"))
    except RedisError:
        advice = "See to it that maxmemory-policy is noeviction and that writes are kept on disk (appendonly yes)."
        yield warning("Redis policy", "this Redis does not show its configuration", advice)
        return
    if policy == "noeviction":
        yield ok("Redis policy", policy)
    else:
        yield problem("Redis policy", policy, "Set maxmemory-policy to noeviction: others delete accepted jobs.")
    if appends == "yes":
        yield ok("Redis on disk", "append-only file")
    else:
        yield warning(
            "Redis on disk", "no append-only file", "Set appendonly to yes: else a restart loses accepted jobs."
        )


def _replicas(info: Mapping[str, Any], wanted: int) -> Iterator[Finding]:
    known = [info.get(f"slave{number}", {}) for number in range(int(info.get("connected_slaves", 0)))]
    online = sum(one.get("state") == "online" for one in known)
    found = f"{online} online, {wanted} needed (SLM_REDIS_REPLICAS)"
    if online < wanted:
        advice = "Every new job is refused: connect replicas, or lower SLM_REDIS_REPLICAS."
        yield problem("Redis replicas", found, advice)
    elif wanted:
        yield ok("Redis replicas", found)
    elif online:
        advice = "A failover can lose the jobs of the last moments: set SLM_REDIS_REPLICAS."
        yield warning("Redis replicas", f"{online} online, which no new job waits for", advice)


def _setting(redis: Redis, name: str) -> str:
    return str(cast(dict[str, str], redis.config_get(name)).get(name, ""))
