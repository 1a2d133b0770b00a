"""The truth about jobs, in Redis. A Celery message is only the bell that says "look here".

Every change of a job is one Lua script, atomic and on the server's clock, and safe to send twice (a connection can
break between the deed and its answer). A worker writes under the attempt it claimed; when the job has been taken up by
another attempt, its writes are refused (`Fenced`). Redis is used as one server, not as a cluster: the scripts build
their keys.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from common import context, events, keys, preparation
from common.api_keys import UNLIMITED, Limits
from common.errors import (
    Conflict,
    IdempotencyMismatch,
    JobExpired,
    JobNotFound,
    NoWorker,
    QueueFull,
    QuotaExceeded,
    RateLimitExceeded,
    SLMError,
    Unauthorized,
    WorkerLost,
)
from common.events import Event
from common.fair_share import BULK_DELAY, cost_of
from common.jobs import SUMMARY, JobKind, JobRecord, JobState, Lane
from common.scripts import Argument, Script

MAX_CONTEXT = 1_048_576  # tokens; no model has a longer one
MAX_CRASHES = 3  # a job that saw so many of its workers die is not given to another
STALE_BELL_MS = 3000  # a bell that nobody answered for so long, with the queue empty, was lost
API_GAP_MS = 3000  # without a beat of the API for so long, none was there (it beats every second)
NO_WORKER_RETRY_S = 5  # about the time a worker takes to start
TOO_MANY_JOBS_RETRY_S = 2  # nobody knows which of the owner's jobs ends first, or when
TOO_MANY_BYTES_RETRY_S = 10  # what is in the way waits or runs: ended jobs make room by themselves
RATE_WINDOW_S = 60.0  # the drain rate is measured over the latest starts of so long
MAX_ESTIMATE_S = 3600.0

_CANCELLED = json.dumps(events.finished(0, JobState.CANCELLED, "cancelled").data)
_FENCED, _GAP = -1, -2  # answers of emit.lua and finish.lua


class Fenced(Exception):
    """The job belongs to another attempt by now; this one must drop it."""


class LogGap(Exception):
    """Redis lost events that this attempt had written (a crash within its fsync promise)."""


@dataclass(frozen=True, slots=True)
class Bell:
    """A Celery message that is due."""

    job_id: str
    kind: JobKind


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job is to be treated. Seconds throughout; None means no limit.

    `reader_grace_s`: the job is cancelled when nobody has read it for that long (`note_readers`); None lets it go on.
    `webhook_url`: whom to tell that the job has ended (`webhook_queue`).
    `idempotency_key` with `fingerprint`: the same key of the same owner finds the first job again; another fingerprint
    is refused.
    """

    bulk: bool = False
    ttl_s: float | None = None
    timeout_s: float | None = None
    reader_grace_s: float | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""
    webhook_url: str | None = None

    def fields(self, owner: str) -> dict[str, Argument]:
        """What `submit.lua` keeps of them in the job's record."""
        wanted: dict[str, Argument | None] = {
            "bulk": 1 if self.bulk else None,
            "ttl_ms": _ms_or_none(self.ttl_s),
            "timeout_ms": _ms_or_none(self.timeout_s),
            "reader_ms": _ms_or_none(self.reader_grace_s),
            "idempotency": keys.idempotency(owner, self.idempotency_key) if self.idempotency_key else None,
            "fingerprint": self.fingerprint if self.idempotency_key else None,
            "webhook_url": self.webhook_url,
        }
        return {name: value for name, value in wanted.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submit. `position` 0: its turn has come. `repeated`: the Idempotency-Key knew the job."""

    job_id: str
    position: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a queued job stands: 1 is the next, 0 means that its turn has come. The estimate is None if unknown."""

    position: int
    estimated_wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on one attempt of a job. `next_seq` is the first event number that is free."""

    job: JobRecord
    attempt: int
    next_seq: int
    elapsed_ms: int  # since the job was started for the first time

    @property
    def time_left_s(self) -> float | None:
        """How long the job may still run; None where that is not limited."""
        limit = self.job.timeout_ms
        return None if limit is None else max(0, limit - self.elapsed_ms) / 1000

    @property
    def age_s(self) -> float:
        """For how long the job has been there, on Redis's clock."""
        return ((self.job.started_ms or self.job.created_ms) - self.job.created_ms + self.elapsed_ms) / 1000


Ring = Callable[[Sequence[Bell]], None]


class JobStore:
    """Submit, claim, renew, emit, finish, cancel, release, reap; and reading.

    Every method may raise `redis.exceptions.RedisError`; `redis_client.explain` says what it means to a client.

    Args:
        redis: connection (with `decode_responses`).
        ring: sends the Celery messages of jobs whose turn has come; must not raise.
        job_ttl_s: how long a finished job can still be read.
        context: the most tokens that a prompt and its answer can have.
    """

    def __init__(self, redis: Redis, ring: Ring, *, job_ttl_s: int, context: int = MAX_CONTEXT) -> None:
        self._context = context
        self._redis = redis
        self._ring = ring
        self._job_ttl_s = job_ttl_s
        self._submit, self._claim, self._renew = Script(redis, "submit"), Script(redis, "claim"), Script(redis, "renew")
        self._emit, self._finish, self._cancel = Script(redis, "emit"), Script(redis, "finish"), Script(redis, "cancel")
        self._release, self._reap = Script(redis, "release"), Script(redis, "reap")
        self._ring_due, self._drop = Script(redis, "ring"), Script(redis, "drop")
        self._api_beat = Script(redis, "api_beat")
        self._note_readers, self._advance = Script(redis, "note_readers"), Script(redis, "advance")

    # -- the API's side ------------------------------------------------------------------------------------------------

    def submit(
        self,
        job_id: str,
        kind: JobKind,
        params: dict[str, Any],
        *,
        owner: str,
        max_queue: int,
        options: JobOptions = JobOptions(),
        limits: Limits = UNLIMITED,
        needs_key: bool = False,
    ) -> Submitted:
        """Enter a new job, or find the one that was entered under the same Idempotency-Key.

        Raises:
            Unauthorized: `needs_key`, and the owner has no API key any more.
            NoWorker: no worker is alive.
            QueueFull: `max_queue` jobs wait already, and the owner has their share of them.
            RateLimitExceeded: the owner is at the limit of their jobs or of their tokens.
            QuotaExceeded: the owner's open jobs keep as many bytes as they may; ended ones make room.
            IdempotencyMismatch: the key was used with another request.
        """
        return self._enter(job_id, kind, params, owner, max_queue, options, limits, needs_key=needs_key)

    def repeated(self, owner: str, options: JobOptions) -> str | None:
        """The job that was entered under the options' Idempotency-Key, if there is one; needs nothing but Redis.

        Raises:
            IdempotencyMismatch: the key was used with another request.
        """
        if options.idempotency_key is None:
            return None
        key = keys.idempotency(owner, options.idempotency_key)
        job_id, fingerprint = cast(list[str | None], self._redis.hmget(key, "id", "fingerprint"))
        if job_id is None or not self._redis.exists(keys.job(job_id)):
            return None
        if fingerprint != options.fingerprint:
            raise _mismatch()
        return job_id

    def retry(self, job_id: str, new_id: str, *, max_queue: int) -> Submitted:
        """Enter a job like the one in quarantine, which is dropped from there.

        Raises:
            JobNotFound: no such job.
            Conflict: it is not in quarantine.
            NoWorker, QueueFull: as `submit`.
        """
        old = self.get(job_id)
        options = JobOptions(
            bulk=old.bulk,
            ttl_s=_s_or_none(old.ttl_ms),
            timeout_s=_s_or_none(old.timeout_ms),
            webhook_url=None if old.webhook is None else old.webhook.url,
        )
        return self._enter(new_id, old.kind, old.params, old.owner, max_queue, options, UNLIMITED, retried=job_id)

    def _enter(
        self,
        job_id: str,
        kind: JobKind,
        params: dict[str, Any],
        owner: str,
        max_queue: int,
        options: JobOptions,
        limits: Limits,
        *,
        retried: str = "",
        needs_key: bool = False,
    ) -> Submitted:
        notes, text = params.get("notes"), json.dumps({name: one for name, one in params.items() if name != "notes"})
        line = (cost_of(params, text, self._context), max_queue, BULK_DELAY if options.bulk else 0)
        most = [_or_empty(one) for one in (limits.concurrent_jobs, limits.tokens_per_day, limits.job_bytes)]
        lane = (kind.lane, preparation.wanted(kind, params))
        fixed = (job_id, kind, *lane, owner, text, *line, self._job_ttl_s, *most, retried, int(needs_key))
        optional = options.fields(owner) | _origin() | ({"notes": json.dumps(notes)} if notes else {})
        flat = [part for pair in optional.items() for part in pair]
        outcome, found_id, position, due, *details = self._submit(*fixed, *flat)
        if outcome == "queue_full":
            raise QueueFull(
                f"The queue is full ({max_queue} jobs); try again later.", retry_after_s=self._retry_after()
            )
        if outcome not in ("ok", "repeated"):
            raise _refusal(outcome, limits, int(position), retried, details)
        self._ring(_bells(due))
        return Submitted(str(found_id), int(position), repeated=outcome == "repeated")

    def cancel(self, job_id: str) -> JobState:
        """Ask for the end of a job: a queued one ends now, a running one at its next token, an ended one stays.

        Raises:
            JobNotFound: no such job.
        """
        answer = self._cancel(job_id, self._job_ttl_s, _CANCELLED)
        if not answer:
            raise JobNotFound(f"There is no job {job_id!r}.")
        self._ring(_bells(answer[1]))
        return JobState(answer[0])

    def cancel_all(self, owner: str) -> int:
        """Ask for the end of all jobs of an owner that have not ended; returns how many there were."""
        job_ids = cast(set[str], self._redis.smembers(keys.open_jobs(owner)))
        for job_id in job_ids:
            with suppress(JobNotFound):
                self.cancel(job_id)
        return len(job_ids)

    def get(self, job_id: str) -> JobRecord:
        """The job's record.

        Raises:
            JobNotFound: no such job, or its record has expired.
        """
        fields = self._redis.hgetall(keys.job(job_id))
        if not fields:
            raise JobNotFound(f"There is no job {job_id!r}.")
        return JobRecord.from_hash(cast(dict[str, str], fields))

    def newest(self, limit: int, *, owner: str | None = None) -> list[JobRecord]:
        """Up to `limit` jobs, newest first: the owner's, or everybody's. See `_summaries`."""
        index = keys.JOB_INDEX if owner is None else keys.owner_index(owner)
        return self._summaries(cast(list[str], self._redis.zrevrange(index, 0, limit - 1)))

    def _summaries(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """The jobs' records without what they were given and what they brought, which can be large."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(keys.job(job_id), SUMMARY)
            found = [dict(zip(SUMMARY, values, strict=True)) for values in pipe.execute()]
        known = [{name: value for name, value in fields.items() if value is not None} for fields in found]
        return [JobRecord.from_hash(fields) for fields in known if fields]

    def places(self, job_ids: Collection[str]) -> dict[str, Place]:
        """Where generations stand in line, in one round trip; those that wait no more are left out.

        Whoever has yet to be prepared stands behind all that need a slot only.
        """
        ids = list(job_ids)
        rate, ranks = self._look_at_line(ids)
        return {
            job_id: Place(rank + 1, _estimate(rank + 1, rate))
            for job_id, rank in zip(ids, ranks, strict=True)
            if rank is not None
        }

    def place_at(self, position: int) -> Place:
        """The place of that number, with its estimate."""
        return Place(position, _estimate(position, self._look_at_line([])[0])) if position else Place(0)

    def _look_at_line(self, job_ids: Sequence[str]) -> tuple[float | None, list[int | None]]:
        """How many generations start per second, where that is known; and the jobs' ranks, from 0."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.lrange(keys.starts(Lane.GENERATE), 0, -1)
            pipe.zcard(keys.pending(Lane.GENERATE))
            for job_id in job_ids:
                pipe.zrank(keys.pending(Lane.GENERATE), job_id)
                pipe.zrank(keys.pending(Lane.PREPARE), job_id)
            (seconds, micros), starts, num_waiting, *found = pipe.execute()
        pairs = zip(found[::2], found[1::2], strict=True)
        ranks = [rank if late is None else num_waiting + late for rank, late in pairs]
        return _start_rate(seconds + micros / 1e6, [int(start) / 1000 for start in starts]), ranks

    def _retry_after(self) -> int:
        """When a place in a full line will be free."""
        return max(1, round(self.place_at(1).estimated_wait_s or NO_WORKER_RETRY_S))

    def note_readers(self, is_read: Mapping[str, bool], grace_s: float) -> None:
        """Note whether somebody reads the jobs, or their last reader has just left.

        For `grace_s` they are safe from being cancelled for want of a reader. Those that nobody reads stand behind
        others in line meanwhile, and give up their slots if others need them.
        """
        flat: list[Argument] = [part for job_id, read in is_read.items() for part in (job_id, int(read))]
        self._ring(_bells(self._note_readers(_ms(grace_s), *flat)))

    def note_api(self) -> None:
        """Note that a process of the API is there. While none is, jobs are not cancelled for want of a reader."""
        self._api_beat(API_GAP_MS)

    def keep_unread(self, job_id: str) -> None:
        """Let the job go on without a reader: its client was told to come back for it."""
        self._redis.hdel(keys.job(job_id), "reader_ms")

    def quarantined(self) -> list[JobRecord]:
        """The jobs that saw too many workers die, oldest first. See `_summaries`."""
        return self._summaries(cast(list[str], self._redis.zrange(keys.QUARANTINE, 0, -1)))

    def drop(self, job_id: str) -> None:
        """Take a job out of quarantine; its record expires like any other's.

        Raises:
            JobNotFound: the job is not in quarantine.
        """
        if not self._drop(job_id, self._job_ttl_s):
            raise JobNotFound(f"Job {job_id!r} is not in quarantine.")

    def usage(self, owner: str) -> dict[str, int]:
        """What the owner's ended jobs came to: `jobs`, `prompt_tokens`, `completion_tokens`."""
        counted = cast(dict[str, str], self._redis.hgetall(keys.usage(owner)))
        return {name: int(counted.get(name, 0)) for name in ("jobs", "prompt_tokens", "completion_tokens")}

    def depth(self, lane: Lane) -> int:
        """How many jobs wait for their turn."""
        return int(self._redis.zcard(keys.pending(lane)))

    def running(self, lane: Lane) -> int:
        """How many jobs are held by a worker."""
        return int(self._redis.zcard(keys.leases(lane)))

    # -- the worker's side ---------------------------------------------------------------------------------------------

    def claim(self, job_id: str, worker_id: str, *, lease_s: float) -> Claim | None:
        """Take the job up; None when there is nothing to do (it ended, or a live worker has it)."""
        answer = self._claim(job_id, worker_id, uuid.uuid4().hex, _ms(lease_s), _CANCELLED, self._job_ttl_s)
        if not answer:
            return None
        attempt, next_seq, elapsed_ms = answer
        return Claim(self.get(job_id), int(attempt), int(next_seq), int(elapsed_ms))

    def renew(self, held: Sequence[tuple[str, int]], *, lease_s: float) -> tuple[set[tuple[str, int]], set[str]]:
        """Renew the leases of (job id, attempt).

        Returns the pairs that are lost to another attempt, and the ids of the jobs whose end was asked for.
        """
        flat: list[Argument] = [value for pair in held for value in pair]
        lost, cancelled = self._renew(_ms(lease_s), *flat)
        return {(job_id, int(attempt)) for job_id, attempt in zip(lost[::2], lost[1::2], strict=True)}, set(cancelled)

    def emit(self, batches: Sequence[tuple[str, int, Sequence[Event]]]) -> list[int]:
        """Append events of several jobs, (job id, attempt, events), in one round trip.

        Returns per job the next free seq, or a negative number where the attempt may not write any more: it was
        fenced off, or Redis has lost events; either way the attempt must drop the job.
        """
        calls: list[tuple[Argument, ...]] = [
            (job_id, attempt, batch[0].seq, *_flat(batch)) for job_id, attempt, batch in batches
        ]
        return [int(answer) for answer in self._emit.many(calls)]

    def succeed(self, job_id: str, attempt: int, result: dict[str, Any], last: Sequence[Event]) -> None:
        """End the job with its result. Raises as `_end`."""
        self._end(job_id, attempt, JobState.SUCCEEDED, "result", result, last)

    def fail(self, job_id: str, attempt: int, last: Sequence[Event]) -> None:
        """End the job with the error that its last event carries. Raises as `_end`."""
        self._end(job_id, attempt, JobState.FAILED, "error", last[-1].data, last)

    def end_cancelled(self, job_id: str, attempt: int, result: dict[str, Any] | None, last: Sequence[Event]) -> None:
        """End a running job that was to be cancelled, with what it had so far. Raises as `_end`."""
        self._end(job_id, attempt, JobState.CANCELLED, "" if result is None else "result", result or {}, last)

    def _end(
        self, job_id: str, attempt: int, state: JobState, field: str, outcome: dict[str, Any], last: Sequence[Event]
    ) -> None:
        """Raises `Fenced` when another attempt owns the job, `LogGap` when Redis lost events of this one."""
        code, due = self._finish(
            job_id, attempt, last[0].seq, state, field, json.dumps(outcome), self._job_ttl_s, *_flat(last)
        )
        if code == _FENCED:
            raise Fenced(job_id)
        if code == _GAP:
            raise LogGap(job_id)
        self._ring(_bells(due))

    def advance(self, job: JobRecord, attempt: int, grammar_key: str) -> None:
        """Have a prepared job wait for its turn in the lane of its kind.

        Args:
            job: held for its preparation.
            attempt: of this worker.
            grammar_key: `preparation.grammar_key` of its grammar, which from now on needs no preparation; may be empty.

        Raises:
            Fenced: another attempt owns it already.
        """
        delay = BULK_DELAY if job.bulk else 0
        code, due = self._advance(job.id, attempt, job.kind.lane, delay, grammar_key, preparation.REMEMBERED_S)
        if code == _FENCED:
            raise Fenced(job.id)
        self._ring(_bells(due))

    def release(self, job_id: str, attempt: int) -> None:
        """Hand a running job back, to its old place in line.

        Raises:
            Fenced: another attempt owns it already.
        """
        code, due = self._release(job_id, attempt)
        if code == _FENCED:
            raise Fenced(job_id)
        self._ring(_bells(due))

    def reap(self, queue: str) -> None:
        """Put back what dead workers held and ring lost bells again; any worker may call it at any time."""
        errors = [
            WorkerLost(f"The job's workers died {MAX_CRASHES} times; it will not be tried again."),
            JobExpired("The job waited longer than its ttl."),
        ]
        wires = [*(json.dumps(err.to_dict()) for err in errors), _CANCELLED]
        for lane in Lane:
            due = self._reap(lane, MAX_CRASHES, STALE_BELL_MS, queue, self._job_ttl_s, *wires)
            self._ring(_bells(due))

    def ring_due(self) -> None:
        """Ring for the jobs whose turn has come, after the workers' slots changed."""
        for lane in (Lane.GENERATE, Lane.PREPARE):
            self._ring(_bells(self._ring_due(lane)))


def _refusal(outcome: str, limits: Limits, seconds: int, retried: str, tokens: Sequence[int]) -> SLMError:
    """Why `submit.lua` did not enter a job. `seconds` is how long too few tokens are left.

    `tokens`, if that is the reason: what the job may need, what is left of the day, what other jobs may need of that.
    """
    match outcome:
        case "too_many_jobs":
            message = f"You have reached your limit of {limits.concurrent_jobs} waiting or running jobs."
            limit = limits.concurrent_jobs
            return RateLimitExceeded(message, retry_after_s=TOO_MANY_JOBS_RETRY_S, limit=limit)
        case "too_few_tokens":
            message = _too_few_tokens(limits.tokens_per_day, *tokens)
            return RateLimitExceeded(message, retry_after_s=seconds, limit=limits.tokens_per_day)
        case "too_many_bytes":
            message = f"Your jobs' texts may take up {limits.job_bytes} bytes; there is no room until other jobs end."
            return QuotaExceeded(message, retry_after_s=TOO_MANY_BYTES_RETRY_S, limit=limits.job_bytes)
        case "no_key":
            return Unauthorized("This API key is not valid; it may have been revoked.")
        case "no_worker":
            return NoWorker("No worker is alive to take the job; try again.", retry_after_s=NO_WORKER_RETRY_S)
        case "mismatch":
            return _mismatch()
        case _:
            return Conflict(f"Job {retried!r} is not in quarantine.")


def _mismatch() -> IdempotencyMismatch:
    return IdempotencyMismatch("This Idempotency-Key was already used with a different request.")


def _too_few_tokens(limit: int | None, cost: int, left: int, reserved: int) -> str:
    if left <= 0:
        return f"Your {limit} tokens for today are used up; you get new ones at midnight UTC."
    needs = f"This request may need {cost} tokens (prompt and max_new_tokens). Of your {limit} tokens for today,"
    if cost > left:
        return f"{needs} {left} are left; ask for fewer, or wait for new ones at midnight UTC."
    return f"{needs} {left} are left, of which your waiting and running jobs reserve {reserved}; try again soon."


def _origin() -> dict[str, Argument]:
    """What a job carries of the request that enters it, for its worker's logs and traces."""
    found = context.current()
    return {name: found[name] for name in ("request_id", "traceparent") if name in found}


def _start_rate(now: float, starts: Sequence[float]) -> float | None:
    """Starts per second over the latest of the start times, newest first; None if they are too few."""
    recent = [start for start in starts if now - start <= RATE_WINDOW_S]
    return None if len(recent) < 2 else len(recent) / max(now - recent[-1], 0.001)


def _estimate(position: int, rate: float | None) -> float | None:
    """How long the job at that place will wait if jobs go on starting at that rate, in seconds."""
    return None if rate is None else min(round(position / rate, 1), MAX_ESTIMATE_S)


def _bells(flat: Sequence[str]) -> list[Bell]:
    return [Bell(job_id, JobKind(kind)) for job_id, kind in zip(flat[::2], flat[1::2], strict=True)]


def _flat(batch: Sequence[Event]) -> list[str]:
    return [part for event in batch for part in (event.type.value, json.dumps(event.data))]


def _or_empty(number: int | None) -> Argument:
    return "" if number is None else number


def _s_or_none(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _ms_or_none(seconds: float | None) -> int | None:
    return None if seconds is None else _ms(seconds)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
