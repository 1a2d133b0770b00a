"""Stores jobs in Redis, the only source of truth about them. A Celery message is only a wake-up message.

Every change of a job is one Lua script, which is atomic, uses the server's clock and is safe to send twice (a
connection can break between the command and its answer). A worker writes under the attempt it claimed; once another
attempt has claimed the job, its writes are refused (`Fenced`). Redis must be a single server, not a cluster, because
the scripts build their own key names.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from common.adapters.registry import AdapterRegistry
from common.conversations.conversation import AnswerPlace
from common.errors import (
    Conflict,
    IdempotencyMismatch,
    JobExpired,
    JobNotFound,
    NotFound,
    NoWorker,
    QueueFull,
    QuotaExceeded,
    RateLimitExceeded,
    RedisUnavailable,
    SLMError,
    Unauthorized,
    WorkerLost,
)
from common.jobs import events, preparation
from common.jobs.events import Event
from common.jobs.fair_share import BULK_DELAY, cost_of
from common.jobs.job import SUMMARY, JobKind, JobRecord, JobState, Lane
from common.jobs.queue_metrics import QueueMetrics, read_queue_metrics
from common.jobs.records import read_fields
from common.jobs.search import search
from common.observation import context
from common.owners.api_keys import UNLIMITED, Limits
from common.owners.collection import Page, page_of
from common.redis import keys
from common.redis.scripts import Argument, Script, or_empty

MAX_CONTEXT = 1_048_576  # tokens; no model has a longer context
MAX_CRASHES = 3  # after this many worker deaths a job is not given to another worker
STALE_MESSAGE_MS = 3000  # a wake-up message without a claim for this long was lost, if the Celery queue is empty
API_GAP_MS = 3000  # without an API heartbeat for this long, no API process was running (it beats every second)
NO_WORKER_RETRY_S = 5  # about the time a worker takes to start
TOO_MANY_JOBS_RETRY_S = 2  # it is unknown which of the owner's jobs ends first, and when
TOO_MANY_BYTES_RETRY_S = 10  # only waiting and running jobs block: ended jobs make room by themselves
REPLICAS_WAIT_S = 1.0  # replicas that are well confirm a write within milliseconds
REPLICAS_RETRY_S = 1
MAX_CONFIRMING = 32  # requests that wait for replicas at once; each has one of the process's 64 connections meanwhile
DAY_S = 86_400
RATE_WINDOW_S = 60.0  # the drain rate is measured over the job starts in this window
MAX_ESTIMATE_S = 3600.0

EVENTS_PER_CALL = 512  # Redis does nothing else meanwhile, about a millisecond

_CANCELLED = json.dumps(events.finished(0, JobState.CANCELLED, "cancelled").data)
_FENCED, _GAP = -1, -2  # return codes of emit.lua and finish.lua


class Fenced(Exception):
    """Another attempt has claimed the job; this one must drop it."""


class LogGap(Exception):
    """Redis lost events that this attempt had written (a crash within the fsync interval)."""


@dataclass(frozen=True, slots=True)
class WakeUp:
    """A Celery wake-up message that is due, for a worker of `queue`; `model` and `base` as in `JobRecord`."""

    job_id: str
    kind: JobKind
    model: str = ""
    base: str = ""
    queue: str = "slm"


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of a job. Times are in seconds; None means no limit.

    `keep_s`: how long the ended job can still be read; None: as long as the store keeps jobs.

    `reader_grace_s`: the job is cancelled if nobody reads it for that long (`note_readers`); None: never.
    `webhook_url`: where to send the webhook when the job has ended (`webhook_queue`).
    `model`: the name that the client requested; "": the alias `default`. Jobs without a prompt use no model.
    `place`: the message of a conversation that the job writes, in which the answer outlives the job.
    `rewrites`: the conversation and the message that the job writes again, if there still is such a message.
    `idempotency_key`: the same key of the same owner finds the first job again; a different `fingerprint` is refused.
    """

    bulk: bool = False
    ttl_s: float | None = None
    timeout_s: float | None = None
    reader_grace_s: float | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""
    webhook_url: str | None = None
    model: str = ""
    keep_s: int | None = None
    place: AnswerPlace | None = None
    rewrites: tuple[str, str] | None = None

    def fields(self, owner: str) -> dict[str, Argument]:
        """Return the fields that `submit.lua` stores in the job's record."""
        wanted: dict[str, Argument | None] = {
            "bulk": 1 if self.bulk else None,
            "ttl_ms": _ms_or_none(self.ttl_s),
            "timeout_ms": _ms_or_none(self.timeout_s),
            "reader_ms": _ms_or_none(self.reader_grace_s),
            "idempotency": keys.idempotency(owner, self.idempotency_key) if self.idempotency_key else None,
            "fingerprint": self.fingerprint if self.idempotency_key else None,
            "webhook_url": self.webhook_url,
            "keep_s": self.keep_s,
        }
        wanted |= {} if self.place is None else self.place.fields()
        wanted |= {} if self.rewrites is None else dict(zip(("conversation", "message"), self.rewrites, strict=True))
        return {name: value for name, value in wanted.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Submitted:
    """The result of a submit. `position` 0: dispatched. `repeated`: the Idempotency-Key belongs to this earlier job.

    `lane` is the name of its lane, and `model` as in `JobRecord`.
    """

    job_id: str
    position: int
    repeated: bool
    lane: str = Lane.GENERATE
    model: str = ""


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """The position of a job in the queue: 1 is next, 0 means dispatched. The estimate is None if unknown."""

    position: int
    estimated_wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's claim on one attempt of a job. `next_seq` is the seq of the next event."""

    job: JobRecord
    attempt: int
    next_seq: int
    elapsed_ms: int  # since the job's first start

    @property
    def time_left_s(self) -> float | None:
        """How long the job may still run; None if unlimited."""
        limit = self.job.timeout_ms
        return None if limit is None else max(0, limit - self.elapsed_ms) / 1000

    @property
    def age_s(self) -> float:
        """How long ago the job was submitted, on Redis's clock."""
        return ((self.job.started_ms or self.job.created_ms) - self.job.created_ms + self.elapsed_ms) / 1000


Dispatch = Callable[[Sequence[WakeUp]], None]


@dataclass(frozen=True, slots=True)
class LimitedUsage:
    """What counts against an owner's limits; `tokens_today` are those of jobs that ended since midnight UTC."""

    open_jobs: int
    tokens_today: int
    job_bytes: int


class JobStore:
    """Submits, claims, renews, finishes, cancels, releases, reaps and reads jobs, and appends their events.

    Every method may raise `redis.exceptions.RedisError`; `common.redis.client.explain` translates it for a client.

    Args:
        redis: connection (with `decode_responses`).
        dispatch: sends the Celery wake-up messages of dispatched jobs; must not raise.
        job_ttl_s: how long a finished job can still be read.
        context: the maximum number of tokens of a prompt and its answer.
        replicas: how many replicas of Redis must have a new job before it is accepted.
        has_queues: whether Redis has the Celery queues, too.
    """

    def __init__(
        self,
        redis: Redis,
        dispatch: Dispatch,
        *,
        job_ttl_s: int,
        context: int = MAX_CONTEXT,
        replicas: int = 0,
        has_queues: bool = True,
    ) -> None:
        self._has_queues = has_queues
        self._context = context
        self._replicas = replicas
        self._confirming = threading.BoundedSemaphore(MAX_CONFIRMING)
        self._redis = redis
        self._dispatch = dispatch
        self._job_ttl_s = job_ttl_s
        self._submit, self._claim, self._renew = Script(redis, "submit"), Script(redis, "claim"), Script(redis, "renew")
        self._emit, self._finish, self._cancel = Script(redis, "emit"), Script(redis, "finish"), Script(redis, "cancel")
        self._release, self._reap = Script(redis, "release"), Script(redis, "reap")
        self._adopt = Script(redis, "adopt")
        self._dispatch_due, self._drop = Script(redis, "dispatch"), Script(redis, "drop")
        self._api_beat, self._positions = Script(redis, "api_beat"), Script(redis, "positions")
        self._pause, self._resume = Script(redis, "pause"), Script(redis, "resume")
        self._amend, self._forget = Script(redis, "amend_result"), Script(redis, "forget")
        self._set_aside, self._withdraw = Script(redis, "set_aside"), Script(redis, "withdraw")
        self._begin_publishing = Script(redis, "begin_publishing")
        self._note_readers, self._advance = Script(redis, "note_readers"), Script(redis, "advance")
        self._registry = AdapterRegistry(redis)

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
        """Submit a new job, or find the job that was submitted under the same Idempotency-Key.

        Raises:
            Unauthorized: `needs_key` is set and the owner's API key was revoked.
            ModelNotFound: nothing has the name `options.model`.
            NoWorker: no worker is alive, or none has reported its base model yet.
            QueueFull: `max_queue` jobs are waiting, and the owner already has their share of them.
            RateLimitExceeded: the owner has reached the limit of jobs or of tokens.
            QuotaExceeded: the owner's open jobs take all the bytes allowed; ended jobs make room.
            IdempotencyMismatch: the key was used with another request.
            NotFound: there is no such conversation of the owner, or no such message in it.
            RedisUnavailable: too few replicas have the job after `REPLICAS_WAIT_S`. If it has an Idempotency-Key, it
                stays, and a repeat finds it. Any other is deleted, or cancelled if a worker has it already, because a
                repeat would be another job.
        """
        arguments = (job_id, kind, params, owner, max_queue, options, limits)
        return self._enter(*arguments, needs_key=needs_key, replicas=self._replicas)

    def repeated(self, owner: str, options: JobOptions) -> str | None:
        """Return the job that was submitted under the options' Idempotency-Key, if any; needs no worker.

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
        """Submit a copy of a job in the dead letters, and remove the original from them.

        It waits for no replicas: if they lack it, they still have the original among the dead letters.

        Raises:
            JobNotFound: the job does not exist.
            Conflict: it is not in the dead letters.
            ModelNotFound: its version was deleted meanwhile.
            NoWorker, QueueFull: as `submit`.
        """
        old = self.get(job_id)
        options = JobOptions(
            bulk=old.bulk,
            ttl_s=_s_or_none(old.ttl_ms),
            timeout_s=_s_or_none(old.timeout_ms),
            webhook_url=None if old.webhook is None else old.webhook.url,
            model=old.model,
            rewrites=old.writes,
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
        replicas: int = 0,
    ) -> Submitted:
        notes, text = params.get("notes"), json.dumps({name: one for name, one in params.items() if name != "notes"})
        queueing = (cost_of(params, text, self._context), max_queue, BULK_DELAY if options.bulk else 0)
        most = [or_empty(one) for one in (limits.concurrent_jobs, limits.tokens_per_day, limits.job_bytes)]
        lane = (kind.lane, preparation.wanted(kind, params))
        fixed = (job_id, kind, *lane, owner, text, *queueing, self._job_ttl_s, *most, retried, int(needs_key))
        optional = options.fields(owner) | _origin() | ({"notes": json.dumps(notes)} if notes else {})
        if kind.names_model or options.model:
            optional["model"] = options.model
        flat = [part for pair in optional.items() for part in pair]
        answer, copies = self._on_replicas(replicas, [*fixed, *flat])
        outcome, found_id, position, due, *details = answer
        if outcome == "queue_full":
            raise QueueFull(
                f"The queue is full ({max_queue} jobs); try again later.", retry_after_s=self._retry_after(*details)
            )
        if outcome == "no_model":
            raise self._registry.unknown(options.model)
        if outcome == "no_worker":
            raise _no_worker(kind, *details)
        if outcome not in ("ok", "repeated"):
            raise _refusal(outcome, limits, int(position), retried, details)
        is_safe = copies >= replicas
        if not is_safe and options.idempotency_key is None:
            self._take_back(job_id, options.place)
        self._dispatch(_wake_ups(due))
        if not is_safe:
            raise _too_few_replicas(replicas, copies)
        return Submitted(str(found_id), int(position), outcome == "repeated", *details)

    def _on_replicas(self, replicas: int, args: Sequence[Argument]) -> tuple[Any, int]:
        """Run `submit.lua`, and wait for replicas if any are needed; return the answer, and how many have it.

        Raises:
            RedisUnavailable: too many requests have waited for replicas all the time; nothing was done.
        """
        if not replicas:
            return self._submit(*args), 0
        if not self._confirming.acquire(timeout=REPLICAS_WAIT_S):
            raise _too_few_replicas(replicas, 0)
        try:
            return self._submit.on_replicas(replicas, REPLICAS_WAIT_S, args)
        finally:
            self._confirming.release()

    def _take_back(self, job_id: str, place: AnswerPlace | None) -> None:
        """Delete a job that was refused after it had been entered; cancel it if a worker has claimed it."""
        added = "" if place is None else place.first_message(job_id)
        is_gone, due = self._withdraw(job_id, added)
        self._dispatch(_wake_ups(due))
        if not is_gone:
            self.cancel(job_id)

    def cancel(self, job_id: str) -> JobState:
        """Request the cancellation of a job: a queued job ends now, a running job at its next token.

        Raises:
            JobNotFound: the job does not exist.
            Conflict: it is a training run that has begun to publish.
        """
        return self._changed(job_id, self._cancel(job_id, self._job_ttl_s, _CANCELLED))

    def pause(self, job_id: str) -> JobState:
        """Set a training run aside: a queued one now, a running one after its current step. Returns its state.

        Raises:
            JobNotFound: the job does not exist.
            Conflict: it has begun to publish.
        """
        return self._changed(job_id, self._pause(job_id))

    def resume(self, job_id: str) -> JobState:
        """Queue a paused training run again; return its state. A run that was never paused is not changed.

        Raises:
            JobNotFound: the job does not exist.
        """
        return self._changed(job_id, self._resume(job_id))

    def _changed(self, job_id: str, answer: Any) -> JobState:
        if not answer:
            raise JobNotFound(f"There is no job {job_id!r}.")
        state, due, *begun = answer
        if begun:
            raise Conflict(f"Training run {job_id} is being published; it is too late to cancel or to pause it.")
        self._dispatch(_wake_ups(due))
        return JobState(state)

    def cancel_all(self, owner: str) -> int:
        """Request the cancellation of all open jobs of an owner; return how many there were."""
        job_ids = cast(set[str], self._redis.smembers(keys.open_jobs(owner)))
        for job_id in job_ids:
            with suppress(JobNotFound, Conflict):
                self.cancel(job_id)
        return len(job_ids)

    def get(self, job_id: str) -> JobRecord:
        """Return the job's record.

        Raises:
            JobNotFound: the job does not exist, or its record has expired.
        """
        fields = self._redis.hgetall(keys.job(job_id))
        if not fields:
            raise JobNotFound(f"There is no job {job_id!r}.")
        return JobRecord.from_hash(cast(dict[str, str], fields))

    def is_open(self, job_id: str) -> bool:
        """Return whether there is a job of that id that has not ended."""
        try:
            return not self.get(job_id).state.is_terminal
        except JobNotFound:
            return False

    def newest(self, limit: int, *, owner: str | None = None) -> list[JobRecord]:
        """Return up to `limit` jobs, newest first: the owner's, or everybody's. See `_summaries`."""
        index = keys.JOB_INDEX if owner is None else keys.owner_index(owner)
        return self._summaries(cast(list[str], self._redis.zrevrange(index, 0, limit - 1)))

    def search(self, text: str, limit: int, *, owner: str | None, reader: str) -> list[JobRecord]:
        """Return up to `limit` jobs with the text, newest first. See `common.jobs.search`."""
        return search(self._redis, text, owner=owner, reader=reader, limit=limit)

    def training_runs(
        self, owner: str, *, after: str | None, limit: int, is_wanted: Callable[[JobRecord], bool]
    ) -> Page[JobRecord]:
        """Return the owner's training runs that follow `after`, newest first; only those that are wanted."""

        def find(job_id: str) -> JobRecord | None:
            fields = cast(dict[str, str], self._redis.hgetall(keys.job(job_id)))
            return JobRecord.from_hash(fields) if fields else None

        return page_of(self._redis, keys.training(owner), find, after=after, limit=limit, is_wanted=is_wanted)

    def amend_result(self, job_id: str, changes: Mapping[str, Any]) -> None:
        """Change some values of a succeeded job's result; nothing happens if its record has expired."""
        self._amend(job_id, json.dumps(dict(changes)))

    def forget(self, job_id: str) -> bool:
        """Delete the record and the events of an ended job; return False if it is still needed.

        That is until it has ended and its webhook was sent, and while it is a dead letter.
        """
        return bool(self._forget(job_id))

    def _summaries(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Return the jobs' records without params and results, which can be large."""
        return [JobRecord.from_hash(fields) for fields in read_fields(self._redis, job_ids, SUMMARY)]

    def queue_positions(self, job_ids: Collection[str]) -> dict[str, QueuePosition]:
        """Return the queue positions of the generations that still wait, in one round trip.

        Jobs that must be prepared first count after all jobs that only wait for free capacity.
        """
        ids = list(job_ids)
        now_ms, lanes, positions, *starts = self._positions(*ids)
        rates = {lane: _start_rate(now_ms, started) for lane, started in zip(starts[::2], starts[1::2], strict=True)}
        return {
            job_id: QueuePosition(position, _estimate(position, rates[lane]))
            for job_id, lane, position in zip(ids, lanes, positions, strict=True)
            if position
        }

    def position_at(self, position: int, lane: str = Lane.GENERATE) -> QueuePosition:
        """Return the given position in a lane, or in the one before it, with its estimated wait."""
        return QueuePosition(position, _estimate(position, self._rate(lane))) if position else QueuePosition(0)

    def _rate(self, lane: str) -> float | None:
        """Return how many generations of the lane's base start per second, if known."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.lrange(keys.starts(lane.replace(Lane.of(lane), Lane.GENERATE, 1)), 0, -1)
            (seconds, micros), starts = pipe.execute()
        return _start_rate(seconds * 1000 + micros / 1000, starts)

    def _retry_after(self, lane: str) -> int:
        """Return after how many seconds a full queue will have room again."""
        return max(1, round(self.position_at(1, lane).estimated_wait_s or NO_WORKER_RETRY_S))

    def note_readers(self, is_read: Mapping[str, bool], grace_s: float) -> None:
        """Record for each job whether somebody reads it, or its last reader has just left.

        For `grace_s` these jobs are not cancelled for lack of a reader. Meanwhile jobs without a reader wait after all
        others in the queue, and are released if others need the capacity.
        """
        flat: list[Argument] = [part for job_id, read in is_read.items() for part in (job_id, int(read))]
        self._dispatch(_wake_ups(self._note_readers(_ms(grace_s), *flat)))

    def note_api(self) -> None:
        """Record that an API process is running. While none is, jobs are not cancelled for lack of a reader."""
        self._api_beat(API_GAP_MS)

    def keep_unread(self, job_id: str) -> None:
        """Let the job continue without a reader, because its client will fetch the result later."""
        self._redis.hdel(keys.job(job_id), "reader_ms")

    def dead_letters(self) -> list[JobRecord]:
        """Return the dead letters (jobs whose workers died too often), oldest first. See `_summaries`."""
        return self._summaries(cast(list[str], self._redis.zrange(keys.DEAD_LETTERS, 0, -1)))

    def drop(self, job_id: str) -> None:
        """Remove a job from the dead letters; its record then expires like any other.

        Raises:
            JobNotFound: the job is not in the dead letters.
        """
        if not self._drop(job_id, self._job_ttl_s):
            raise JobNotFound(f"Job {job_id!r} is not in quarantine.")

    def usage(self, owner: str) -> dict[str, int]:
        """Return the totals of the owner's ended jobs: `jobs`, `prompt_tokens`, `completion_tokens`."""
        counted = cast(dict[str, str], self._redis.hgetall(keys.usage(owner)))
        return {name: int(counted.get(name, 0)) for name in ("jobs", "prompt_tokens", "completion_tokens")}

    def limited_usage(self, owner: str) -> LimitedUsage:
        """Return what counts against the owner's limits now."""
        seconds, _ = self._redis.time()
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.scard(keys.open_jobs(owner))
            pipe.get(keys.tokens(owner, int(seconds) // DAY_S))
            pipe.hget(keys.OWNERS_BYTES, owner)
            open_jobs, tokens_today, job_bytes = pipe.execute()
        return LimitedUsage(int(open_jobs), int(tokens_today or 0), int(job_bytes or 0))

    def metrics(self) -> QueueMetrics:
        """Return how many jobs wait and run in each lane."""
        return read_queue_metrics(self._redis)

    def depth(self, lane: Lane) -> int:
        """Return how many jobs with that need wait, for all base models together."""
        return _total(self.metrics().waiting, lane)

    def running(self, lane: Lane) -> int:
        """Return how many jobs with that need workers have claimed, for all base models together."""
        return _total(self.metrics().running, lane)

    # -- the worker's side ---------------------------------------------------------------------------------------------

    def claim(self, job_id: str, worker_id: str, *, lease_s: float) -> Claim | None:
        """Claim the job; None if there is nothing to do (it has ended, or a live worker has it)."""
        answer = self._claim(job_id, worker_id, uuid.uuid4().hex, _ms(lease_s), _CANCELLED, self._job_ttl_s)
        if not answer:
            return None
        attempt, next_seq, elapsed_ms, record = answer
        job = JobRecord.from_hash(dict(zip(record[::2], record[1::2], strict=True)))
        return Claim(job, int(attempt), int(next_seq), int(elapsed_ms))

    def renew(self, leases: Sequence[tuple[str, int]], *, lease_s: float) -> tuple[set[tuple[str, int]], set[str]]:
        """Renew the leases of (job id, attempt).

        Returns the pairs that were lost to another attempt, and the ids of the jobs to cancel.
        """
        flat: list[Argument] = [value for pair in leases for value in pair]
        lost, cancelled = self._renew(_ms(lease_s), *flat)
        return {(job_id, int(attempt)) for job_id, attempt in zip(lost[::2], lost[1::2], strict=True)}, set(cancelled)

    def emit(self, batches: Sequence[tuple[str, int, Sequence[Event]]]) -> list[int]:
        """Append events of several jobs, (job id, attempt, events), in one round trip.

        Returns the next free seq of each job, or a negative number if the attempt may not write any more: it was fenced
        off, or Redis has lost events. In both cases the attempt must drop the job.
        """
        calls: list[list[Argument]] = [[]]
        size = 0
        for job_id, attempt, batch in batches:
            if size and size + len(batch) > EVENTS_PER_CALL:
                calls.append([])
                size = 0
            calls[-1] += (job_id, attempt, batch[0].seq, len(batch), *_flat(batch))
            size += len(batch)
        return [int(next_seq) for answers in self._emit.many(calls) for next_seq in answers]

    def succeed(self, job_id: str, attempt: int, result: dict[str, Any], last: Sequence[Event]) -> None:
        """End the job with its result. Raises as `_end`."""
        self._end(job_id, attempt, JobState.SUCCEEDED, "result", result, last)

    def fail(self, job_id: str, attempt: int, last: Sequence[Event]) -> None:
        """End the job with the error that its last event carries. Raises as `_end`."""
        self._end(job_id, attempt, JobState.FAILED, "error", last[-1].data, last)

    def end_cancelled(self, job_id: str, attempt: int, result: dict[str, Any] | None, last: Sequence[Event]) -> None:
        """End a running job that was cancelled, with its partial result. Raises as `_end`."""
        self._end(job_id, attempt, JobState.CANCELLED, "" if result is None else "result", result or {}, last)

    def _end(
        self, job_id: str, attempt: int, state: JobState, field: str, outcome: dict[str, Any], last: Sequence[Event]
    ) -> None:
        """Raises `Fenced` if another attempt owns the job, `LogGap` if Redis lost events of this one."""
        code, due = self._finish(
            job_id, attempt, last[0].seq, state, field, json.dumps(outcome), self._job_ttl_s, *_flat(last)
        )
        if code == _GAP:
            raise LogGap(job_id)
        self._leave(job_id, code, due)

    def _leave(self, job_id: str, code: int, due: list[str]) -> None:
        """Dispatch the jobs that can start because an attempt has left its job; raise `Fenced` if it was another's."""
        if code == _FENCED:
            raise Fenced(job_id)
        self._dispatch(_wake_ups(due))

    def advance(self, job: JobRecord, attempt: int, grammar_key: str = "", *, base: str = "") -> None:
        """Put a prepared job into the queue of its kind, or any job into the queue of another base model.

        Args:
            job: the job that was claimed.
            attempt: this worker's attempt.
            grammar_key: `preparation.grammar_key` of its grammar, which needs no preparation from now on; may be empty.
            base: the other base model; empty to keep the job's.

        Raises:
            Fenced: another attempt owns the job.
        """
        delay = BULK_DELAY if job.bulk else 0
        fixed = (job.kind.lane, delay, grammar_key, preparation.REMEMBERED_S, base)
        self._leave(job.id, *self._advance(job.id, attempt, *fixed))

    def release(self, job_id: str, attempt: int) -> None:
        """Return a running job to its old position in the queue.

        Raises:
            Fenced: another attempt owns the job.
        """
        self._leave(job_id, *self._release(job_id, attempt))

    def set_aside(self, job_id: str, attempt: int) -> bool:
        """Pause a running training run, as `pause` requested; if it was resumed meanwhile, return it to the queue.

        Returns False, and does nothing, if its cancellation was requested: then it must end.

        Raises:
            Fenced: another attempt owns the job.
        """
        code, due = self._set_aside(job_id, attempt)
        self._leave(job_id, code, due)
        return bool(code)

    def begin_publishing(self, job_id: str, attempt: int) -> bool:
        """Let a training run publish, unless it is to be cancelled or paused; return whether it may.

        From then on it is too late for both, also for a later attempt.

        Raises:
            Fenced: another attempt owns the job.
        """
        if (code := self._begin_publishing(job_id, attempt)) == _FENCED:
            raise Fenced(job_id)
        return bool(code)

    def is_to_pause(self, job_id: str) -> bool:
        """Return whether a running training run is to be set aside."""
        return bool(self._redis.hexists(keys.job(job_id), "pause"))

    def is_to_cancel(self, job_id: str) -> bool:
        """Return whether the cancellation of a running job was requested."""
        return bool(self._redis.hexists(keys.job(job_id), "cancel"))

    def reap(self, pause_s: float = 0) -> None:
        """Requeue the jobs of dead workers and dispatch jobs with lost messages again; any worker may call it.

        Does nothing if any worker did so in the last `pause_s` seconds: a thousand of them need not all look.
        """
        errors = [
            WorkerLost(f"The job's workers died {MAX_CRASHES} times; it will not be tried again."),
            JobExpired("The job waited longer than its ttl."),
        ]
        wires = [*(json.dumps(err.to_dict()) for err in errors), _CANCELLED]
        how: list[Argument] = [*wires, _ms(pause_s), int(self._has_queues)]
        self._dispatch(_wake_ups(self._reap(MAX_CRASHES, STALE_MESSAGE_MS, self._job_ttl_s, *how)))

    def adopt(self, base: str, lane_base: str, *, is_default: bool) -> None:
        """Move the waiting jobs of a base model into the lanes of its workers; its workers call it.

        Jobs wait elsewhere if the server had only one base model before, or several, or if they were accepted before
        any base was known. The workers of the default base take the latter.

        Args:
            base: the base model's name.
            lane_base: the same if it has its own lanes, else empty.
            is_default: whether it is the server's default.
        """
        self._dispatch(_wake_ups(self._adopt(base, lane_base, int(is_default), BULK_DELAY)))

    def dispatch_due(self) -> None:
        """Dispatch the jobs that are next, after the capacity of the workers has changed."""
        self._dispatch(_wake_ups(self._dispatch_due()))


def _refusal(outcome: str, limits: Limits, seconds: int, retried: str, tokens: Sequence[int]) -> SLMError:
    """Return the error for a job that `submit.lua` refused. `seconds` is the time until enough tokens are left.

    `tokens`, if they are the reason: the most the job may need, how many are left today, and how many of those are
    reserved for other jobs.
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
        case "no_conversation" | "no_parent":
            what = "message to answer" if outcome == "no_parent" else "conversation of yours"
            return NotFound(f"There is no such {what}.", param="conversation")
        case "unfinished_parent":
            return Conflict("The conversation's last answer is not complete; wait for it or cancel it.")
        case "conversation_messages" | "conversation_bytes":
            return QuotaExceeded("The conversation has no room for another message; delete some.", param="conversation")
        case "no_key":
            return Unauthorized("This API key is not valid; it may have been revoked.")
        case "mismatch":
            return _mismatch()
        case _:
            return Conflict(f"Job {retried!r} is not in quarantine.")


def _too_few_replicas(wanted: int, copies: int) -> RedisUnavailable:
    message = (
        f"Only {copies} of the {wanted} replicas that must have a new job (SLM_REDIS_REPLICAS) confirmed it in time"
    )
    return RedisUnavailable(f"{message}; try again.", retry_after_s=REPLICAS_RETRY_S)


def _no_worker(kind: JobKind, base: str) -> NoWorker:
    """Return the error for a job that nobody could take; `base` is its base model if only that has no worker."""
    who = f"No worker of the base model {base!r}" if base else "No worker"
    who = {
        Lane.TRAIN: "No trainer (it starts with the server, unless SLM_TRAINER is false)",
        Lane.EMBED: "No embedder (SLM_EMBED_MODEL)",
    }.get(kind.lane, who)
    return NoWorker(f"{who} is alive to take the job; try again.", retry_after_s=NO_WORKER_RETRY_S)


def _total(counts: Mapping[str, int], lane: Lane) -> int:
    return sum(count for name, count in counts.items() if Lane.of(name) is lane)


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
    """Return the ids of the current request, which the job carries for its worker's logs and traces."""
    found = context.current()
    return {name: found[name] for name in ("request_id", "traceparent") if name in found}


def _start_rate(now_ms: float, starts_ms: Sequence[str]) -> float | None:
    """Return the starts per second over the recent start times, given newest first; None if there are too few."""
    ages = [(now_ms - int(start)) / 1000 for start in starts_ms]
    recent = [age for age in ages if age <= RATE_WINDOW_S]
    return None if len(recent) < 2 else len(recent) / max(recent[-1], 0.001)


def _estimate(position: int, rate: float | None) -> float | None:
    """Return how many seconds the job at that position will wait if jobs keep starting at that rate."""
    return None if rate is None else min(round(position / rate, 1), MAX_ESTIMATE_S)


def _wake_ups(flat: Sequence[str]) -> list[WakeUp]:
    parts = zip(*(flat[part::5] for part in range(5)), strict=True)
    return [WakeUp(job_id, JobKind(kind), model, base, queue) for job_id, kind, model, base, queue in parts]


def _flat(batch: Sequence[Event]) -> list[str]:
    return [part for event in batch for part in (event.type.value, json.dumps(event.data))]


def _s_or_none(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _ms_or_none(seconds: float | None) -> int | None:
    return None if seconds is None else _ms(seconds)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
