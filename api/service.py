"""Submits, follows, shows and cancels jobs for all routes. Knows nothing of HTTP.

Every method may raise `redis.exceptions.RedisError`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from api.auth.caller import Caller
from api.http.concurrency import ConcurrencyLimiter
from api.jobs.live_job import LiveJob
from api.jobs.queue_position import DISPATCHED, PositionWatch, QueueWatcher
from api.jobs.readers import Readers
from api.training.progress import latest_progress, recent_events
from common import ids
from common.errors import Conflict, InvalidRequest, JobNotFound, PromptTooLong, ServerStopping, Unauthorized
from common.jobs import events, prompts
from common.jobs.event_log import EventLog
from common.jobs.events import Event
from common.jobs.job import GenerateResult, JobKind, JobRecord, JobState, Lane
from common.jobs.store import JobOptions, JobStore, LimitedUsage, QueuePosition, Submitted
from common.owners import revocation
from common.owners.api_keys import ANONYMOUS, ApiKeyStore, Limits
from common.owners.batches import BatchStore
from common.owners.collection import Page
from common.owners.revocation import Revoked

RESTART_S = 5  # about the time until the API is back

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to submit: its owner, kind, parameters, options and id."""

    owner: str
    kind: JobKind
    params: dict[str, Any]
    options: JobOptions
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def can_be_resumed(self) -> bool:
        """Whether the client can find the job again after a disconnect, or wants it to continue without a reader."""
        return self.options.idempotency_key is not None or self.options.reader_grace_s is None


@dataclass(frozen=True, slots=True)
class AcceptedJob:
    """A submitted job, or the earlier job of its Idempotency-Key (`is_repeat`). `queue_position` as in `JobView`.

    `model` as in `JobRecord`.
    """

    job_id: str
    state: JobState
    queue_position: QueuePosition | None
    is_repeat: bool
    model: str


@dataclass(frozen=True, slots=True)
class JobView:
    """The current state of a job. `queue_position` is None unless it is queued; `text` is the answer so far.

    `progress` is that of a training run or an evaluation.
    """

    record: JobRecord
    queue_position: QueuePosition | None
    text: str
    progress: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The totals of an owner's ended jobs."""

    owner: str
    jobs: int
    prompt_tokens: int
    completion_tokens: int


class JobService:
    """Submits, follows, shows, lists and cancels jobs.

    Args:
        store: the jobs.
        log: their events.
        readers: reports which jobs are read.
        watcher: looks up queue positions.
        limiter: shares the reading of logs between owners.
        limits_of: returns the limits of an owner.
        max_queue: maximum number of waiting jobs (`JobStore.submit`).
        max_prompt_chars: maximum length of a prompt.
    """

    def __init__(
        self,
        store: JobStore,
        log: EventLog,
        readers: Readers,
        watcher: QueueWatcher,
        limiter: ConcurrencyLimiter,
        *,
        limits_of: Callable[[str], Limits],
        max_queue: int,
        max_prompt_chars: int,
    ) -> None:
        self._limits_of = limits_of
        self._store = store
        self._log = log
        self._readers = readers
        self._watcher = watcher
        self._limiter = limiter
        self._max_queue = max_queue
        self._max_prompt_chars = max_prompt_chars
        self._open: set[LiveJob] = set()
        self._is_stopping = False

    def stop_accepting(self) -> None:
        """Accept no more jobs, because the process is about to end. Clients can still follow theirs."""
        self._is_stopping = True

    def end_open(self) -> None:
        """End all open subscriptions with an error, because the process ends now."""
        for job in list(self._open):
            job.end(_stopping())

    def end_revoked(self, now: Callable[[Caller], Caller | None]) -> None:
        """End the subscriptions of readers who may no longer see their job; `now` returns a caller's current rights."""
        for job in list(self._open):
            if job.reader is None:
                continue  # a job of their own, which ends when their key is revoked
            reader = now(job.reader)
            if reader is None or not reader.may_see(job.owner):
                job.end(Unauthorized("The API key was revoked, or may no longer see this job."))

    def submit(self, job: NewJob) -> AcceptedJob:
        """Submit a job that the client does not follow."""
        submitted = self._enter(job)
        if submitted.repeated:
            record = self._store.get(submitted.job_id)
            return AcceptedJob(
                record.id, record.state, self._queue_position(record), is_repeat=True, model=record.model
            )
        return self._accepted(submitted)

    def _accepted(self, submitted: Submitted) -> AcceptedJob:
        position = self._store.position_at(submitted.position, submitted.lane)
        return AcceptedJob(submitted.job_id, JobState.QUEUED, position, is_repeat=False, model=submitted.model)

    def start(self, job: NewJob) -> LiveJob:
        """Submit a job and follow it. The subscription is made first, so that no event is missed."""
        job_id = job.id
        with ExitStack() as undo:
            follower = undo.enter_context(self._log.follow(job_id, is_new=True))
            submitted = self._enter(job)
            if submitted.repeated:
                return self._follow(self._store.get(submitted.job_id), is_repeat=True)
            undo.pop_all()
            needs_reader = job.options.reader_grace_s is not None
            reading = self._readers.enter(job_id, is_known=True) if needs_reader else None
            watch = PositionWatch(self._watcher, job_id, follower.nudge)
            return self._opened(
                LiveJob(
                    job_id,
                    job.kind,
                    follower,
                    watch,
                    self._open.discard,
                    owner=job.owner,
                    model=submitted.model,
                    reading=reading,
                )
            )

    def is_repeat(self, job: NewJob) -> bool:
        """Return whether a job was submitted under this Idempotency-Key before; needs no worker.

        Raises:
            IdempotencyMismatch: the key was used with another request.
        """
        return self._store.repeated(job.owner, job.options) is not None

    def _opened(self, job: LiveJob) -> LiveJob:
        self._open.add(job)
        return job

    def _enter(self, job: NewJob) -> Submitted:
        if self._is_stopping and not self.is_repeat(job):
            raise _stopping()
        if job.kind.takes_prompt:
            self._check_length(prompts.length(prompts.from_wire(job.params)))
        return self._store.submit(
            job.id,
            job.kind,
            job.params,
            owner=job.owner,
            max_queue=self._max_queue,
            options=job.options,
            limits=self._limits_of(job.owner),
            needs_key=job.owner != ANONYMOUS,
        )

    def _check_length(self, length: int) -> None:
        if length > self._max_prompt_chars:
            raise PromptTooLong(
                f"The prompt has {length} characters; the limit is {self._max_prompt_chars}.",
                param="prompt",
            )

    def attach(self, job_id: str, after: int, caller: Caller) -> LiveJob | None:
        """Follow an existing job after event `after` (-1: from its beginning).

        Returns None if `after` is the terminal event. A job that has not ended may have no event `after`, because
        Redis can have lost events that the client has seen.

        Raises:
            JobNotFound: the job does not exist, or is not the caller's.
            InvalidRequest: the job has ended and never had an event `after`.
        """
        record = self.get(job_id, caller)
        seen = self._log.read(job_id, limit=after + 1)
        if after >= len(seen) and record.state.is_terminal and record.attempt <= 1:  # one attempt: no event was lost
            raise InvalidRequest(
                f"Last-Event-ID must be the id of an event of this stream; there is no event {after}",
                param="last_event_id",
            )
        if after == len(seen) - 1 and seen and seen[-1].type.is_terminal:
            return None
        return self._follow(record, seen=seen, after=after, reader=caller)

    def _follow(
        self,
        record: JobRecord,
        *,
        seen: Sequence[Event] = (),
        after: int = -1,
        reader: Caller | None = None,
        is_repeat: bool = False,
    ) -> LiveJob:
        """Follow a job for `reader` (see `LiveJob`); None: for the job's owner."""
        present = self._log.length(record.id)
        owner = record.owner if reader is None else reader.owner
        follower = self._log.follow(record.id, lambda: self._limiter.acquire(owner))
        watch = PositionWatch(self._watcher, record.id, follower.nudge)
        if record.state is JobState.QUEUED and record.kind.lane is Lane.GENERATE:  # only generations have positions
            watch.begin()
        reading = self._readers.enter(record.id) if record.needs_reader else None
        return self._opened(
            LiveJob(
                record.id,
                record.kind,
                follower,
                watch,
                self._open.discard,
                owner=record.owner,
                model=record.model,
                reader=reader,
                seen=seen,
                after=after,
                present=present,
                reading=reading,
                is_repeat=is_repeat,
            )
        )

    def abandon(self, job: LiveJob, new: NewJob) -> None:
        """Stop following a job whose client has disconnected; cancel it if nobody can find it again."""
        job.close()
        if new.can_be_resumed or job.is_repeat:
            return
        try:
            self._store.cancel(job.id)
        except (JobNotFound, RedisError) as err:
            log.warning("job %s: could not be cancelled (%s); it ends after its reader's grace period", job.id, err)

    def note_presence(self) -> None:
        """Record that an API process is running; to be called at least every second."""
        self._store.note_api()

    def keep_unread(self, job_id: str) -> None:
        """Let the job continue without a reader, because its client will fetch the result later."""
        self._store.keep_unread(job_id)

    def get(self, job_id: str, caller: Caller) -> JobRecord:
        """Return the job's record.

        Raises:
            JobNotFound: the job does not exist, or is not the caller's; the error is the same.
        """
        _check_form(job_id)
        record = self._store.get(job_id)
        if not caller.may_see(record.owner):
            raise JobNotFound(f"There is no job {job_id!r}.")
        return record

    def poll(self, job_id: str, caller: Caller) -> JobView:
        """Return the current state of a job for a client, who counts as a reader. Raises as `get`."""
        record = self.get(job_id, caller)
        if record.needs_reader:
            self._readers.touch(job_id)
        return self._view(record)

    def is_open(self, job_id: str) -> bool:
        """Return whether there is a job of that id, of any owner, that has not ended."""
        return self._store.is_open(job_id)

    def view(self, job_id: str) -> JobView:
        """Return the current state of a job of any owner.

        Raises:
            JobNotFound: the job does not exist.
        """
        return self._view(self._store.get(job_id))

    def pause(self, job_id: str, caller: Caller) -> JobState:
        """Set a training run aside: a queued one now, a running one after its current step. Returns its state.

        Raises:
            JobNotFound: the job does not exist, or is not the caller's.
            Conflict: it is no training run, has ended, or has begun to publish.
        """
        return _still_open(self._store.pause(self._run(job_id, caller).id), job_id)

    def resume(self, job_id: str, caller: Caller) -> JobState:
        """Queue a paused training run again; return its state. Raises as `pause`."""
        return _still_open(self._store.resume(self._run(job_id, caller).id), job_id)

    def _run(self, job_id: str, caller: Caller) -> JobRecord:
        record = self.get(job_id, caller)
        if record.kind is not JobKind.TRAIN:
            raise Conflict(f"Job {job_id} is no training run; only these can be paused.")
        return record

    def recent_events(self, job_id: str) -> list[Event]:
        """Return the latest events of a job of any owner."""
        return recent_events(self._log, job_id)

    def training_runs(
        self, owner: str, *, after: str | None, limit: int, is_wanted: Callable[[JobRecord], bool]
    ) -> Page[JobRecord]:
        """Return the owner's training runs that follow `after`, newest first; only those that are wanted."""
        return self._store.training_runs(owner, after=after, limit=limit, is_wanted=is_wanted)

    def logged_events(self, job_id: str) -> list[Event]:
        """Return the events so far of a job of any owner."""
        return self._log.read(job_id)

    def _view(self, record: JobRecord) -> JobView:
        if record.kind.lane is Lane.TRAIN:
            progress = latest_progress(recent_events(self._log, record.id))
            return JobView(record, self._queue_position(record), "", progress)
        return JobView(record, self._queue_position(record), self._text(record).strip())

    def _text(self, record: JobRecord) -> str:
        """Return the answer so far; for an ended job from its record, because a log can be long."""
        if record.result and record.kind.lane is Lane.GENERATE:
            return GenerateResult.from_dict(record.result).response
        return events.committed(self._log.read(record.id))[1]

    def _queue_position(self, record: JobRecord) -> QueuePosition | None:
        if record.state is not JobState.QUEUED:
            return None
        return self._store.queue_positions([record.id]).get(record.id, DISPATCHED)

    def forget(self, job_id: str, caller: Caller) -> None:
        """Delete the record and the events of an ended job.

        Raises:
            JobNotFound: the job does not exist, or is not the caller's.
            Conflict: it has not ended, or its webhook was not sent yet.
        """
        if not self._store.forget(self.get(job_id, caller).id):
            raise Conflict(f"Job {job_id} has not ended, or its webhook was not sent yet; try again.")

    def dead_letters(self) -> list[JobRecord]:
        """Return the dead letters, oldest first."""
        return self._store.dead_letters()

    def retry(self, job_id: str) -> AcceptedJob:
        """Submit a copy of a dead letter, and remove the original. Raises as `JobStore.retry`."""
        _check_form(job_id)
        submitted = self._store.retry(job_id, str(uuid.uuid4()), max_queue=self._max_queue)
        return self._accepted(submitted)

    def drop(self, job_id: str) -> None:
        """Remove a job from the dead letters.

        Raises:
            JobNotFound: the job is not a dead letter.
        """
        _check_form(job_id)
        self._store.drop(job_id)

    def usage(self, owner: str) -> Usage:
        """Return the totals of the owner's ended jobs."""
        return Usage(owner, **self._store.usage(owner))

    def revoke(self, name: str, keys: ApiKeyStore, batches: BatchStore) -> Revoked:
        """Revoke a key, unless it is the last admin's, and cancel its owner's work. Raises as `revocation.revoke`."""
        return revocation.revoke(name, keys, batches, self._store, keeps_admin=True)

    def limited_usage(self, owner: str) -> LimitedUsage:
        """Return what counts against the owner's limits now."""
        return self._store.limited_usage(owner)

    def newest(self, limit: int, caller: Caller) -> list[JobRecord]:
        """Return up to `limit` jobs, newest first: the caller's, or everybody's for an admin."""
        return self._store.newest(limit, owner=None if caller.is_admin else caller.owner)

    def search(self, text: str, limit: int, caller: Caller) -> list[JobRecord]:
        """Return up to `limit` of the same jobs that have the text; see `common.jobs.search`."""
        return self._store.search(text, limit, owner=None if caller.is_admin else caller.owner, reader=caller.owner)

    def cancel(self, job_id: str, caller: Caller) -> JobState:
        """Request the cancellation of a job; return its state. RUNNING means that it ends at its next token.

        Raises:
            JobNotFound: the job does not exist, or is not the caller's.
            Conflict: it is a training run that has begun to publish.
        """
        return self._store.cancel(self.get(job_id, caller).id)


def _stopping() -> ServerStopping:
    return ServerStopping("The server is being restarted; try again.", retry_after_s=RESTART_S)


def _still_open(state: JobState, job_id: str) -> JobState:
    if state.is_terminal:
        raise Conflict(f"Job {job_id} has already {'been cancelled' if state is JobState.CANCELLED else state.value}.")
    return state


def _check_form(job_id: str) -> None:
    """Reject an id that is not in our format: ids come from URLs and become parts of Redis keys."""
    if not ids.has_form(job_id, ids.UUID):
        raise JobNotFound(f"There is no job {job_id[:60]!r}.")
