"""What the API can do with jobs. Knows nothing of HTTP.

Errors of `common.errors` and `redis.exceptions.RedisError` go through to the caller.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from api.auth.caller import Caller
from api.http.turns import Turns
from api.jobs.live_job import LiveJob
from api.jobs.queue_position import DISPATCHED, PositionWatch, QueueWatcher
from api.jobs.readers import Readers
from common import ids
from common.errors import InvalidRequest, JobNotFound, PromptTooLong, ServerStopping, Unauthorized
from common.jobs import events, prompts
from common.jobs.event_log import EventLog
from common.jobs.events import Event
from common.jobs.job import GenerateResult, JobKind, JobRecord, JobState, Lane
from common.jobs.store import JobOptions, JobStore, QueuePosition, Submitted
from common.owners.api_keys import ANONYMOUS, Limits

RESTART_S = 5  # about the time until the API is back

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a client wants done, for whom, and how it is to be treated."""

    owner: str
    kind: JobKind
    params: dict[str, Any]
    options: JobOptions

    @property
    def can_be_found_again(self) -> bool:
        """Whether its client has a way back to it once the connection is gone, or wants it to go on without."""
        return self.options.idempotency_key is not None or self.options.reader_grace_s is None


@dataclass(frozen=True, slots=True)
class Entered:
    """A job that was entered, or that an Idempotency-Key had entered before (`is_repeat`). `place` as in `JobView`."""

    job_id: str
    state: JobState
    place: QueuePosition | None
    is_repeat: bool


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it stands. `place` is None unless it is queued; `text` is the answer so far."""

    record: JobRecord
    place: QueuePosition | None
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """An owner's account."""

    owner: str
    jobs: int
    prompt_tokens: int
    completion_tokens: int


class JobService:
    """Submit, follow, describe, list and cancel jobs.

    Args:
        turns: shares the reading of logs between owners.
        limits_of: tells how much an owner may ask for.
        max_queue: the most jobs that wait (`JobStore.submit`).
        max_prompt_chars: the longest prompt.
    """

    def __init__(
        self,
        store: JobStore,
        log: EventLog,
        readers: Readers,
        line: QueueWatcher,
        turns: Turns,
        *,
        limits_of: Callable[[str], Limits],
        max_queue: int,
        max_prompt_chars: int,
    ) -> None:
        self._limits_of = limits_of
        self._store = store
        self._log = log
        self._readers = readers
        self._line = line
        self._turns = turns
        self._max_queue = max_queue
        self._max_prompt_chars = max_prompt_chars
        self._open: set[LiveJob] = set()
        self._is_stopping = False

    def stop_taking(self) -> None:
        """Take no more jobs: the process is about to end. Those that are followed go on."""
        self._is_stopping = True

    def end_open(self) -> None:
        """Let everybody go who follows a job, with the reason: the process ends now."""
        for job in list(self._open):
            job.end(_stopping())

    def end_revoked(self, now: Callable[[Caller], Caller | None]) -> None:
        """Let everybody go who reads a job that they may no longer see; `now` tells what rights they have now."""
        for job in list(self._open):
            if job.reader is None:
                continue  # it is their own, and ends with their key
            reader = now(job.reader)
            if reader is None or not reader.may_see(job.owner):
                job.end(Unauthorized("The API key was revoked, or may no longer see this job."))

    def submit(self, job: NewJob) -> Entered:
        """Enter a job and leave it to itself."""
        submitted = self._enter(str(uuid.uuid4()), job)
        if submitted.repeated:
            record = self._store.get(submitted.job_id)
            return Entered(record.id, record.state, self._queue_position(record), is_repeat=True)
        return self._entered(submitted)

    def _entered(self, submitted: Submitted) -> Entered:
        return Entered(submitted.job_id, JobState.QUEUED, self._store.position_at(submitted.position), is_repeat=False)

    def start(self, job: NewJob) -> LiveJob:
        """Enter a job and follow it. The subscription stands before the job does: no event can slip through."""
        job_id = str(uuid.uuid4())
        with ExitStack() as undo:
            follower = undo.enter_context(self._log.follow(job_id))
            submitted = self._enter(job_id, job)
            if submitted.repeated:
                return self._follow(self._store.get(submitted.job_id), is_repeat=True)
            undo.pop_all()
            needs_reader = job.options.reader_grace_s is not None
            reading = self._readers.enter(job_id, is_known=True) if needs_reader else None
            watch = PositionWatch(self._line, job_id, follower.nudge)
            live = LiveJob(job_id, job.kind, follower, watch, self._open.discard, owner=job.owner, reading=reading)
            return self._opened(live)

    def is_repeat(self, job: NewJob) -> bool:
        """Whether the job was entered before under its Idempotency-Key: then it is found, whatever else is down.

        Raises:
            IdempotencyMismatch: the key was used with another request.
        """
        return self._store.repeated(job.owner, job.options) is not None

    def _opened(self, job: LiveJob) -> LiveJob:
        self._open.add(job)
        return job

    def _enter(self, job_id: str, job: NewJob) -> Submitted:
        if self._is_stopping and not self.is_repeat(job):
            raise _stopping()
        if job.kind.takes_prompt:
            self._check_length(prompts.length(prompts.from_wire(job.params)))
        return self._store.submit(
            job_id,
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
        """Follow an existing job behind event `after` (-1: from its beginning).

        Returns None when nothing can come: `after` is the job's last event. A job that has not ended may have no event
        `after`: Redis can have lost what the client has seen.

        Raises:
            JobNotFound: no such job, or it is not the caller's.
            InvalidRequest: the job has ended, and never had an event `after`.
        """
        record = self.get(job_id, caller)
        seen = self._log.read(job_id, limit=after + 1)
        if after >= len(seen) and record.state.is_terminal and record.attempt <= 1:  # with one attempt none was lost
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
        """`reader`: see `LiveJob`; without one it is the job's own owner."""
        present = self._log.length(record.id)
        turn_of = record.owner if reader is None else reader.owner
        follower = self._log.follow(record.id, lambda: self._turns.take(turn_of))
        watch = PositionWatch(self._line, record.id, follower.nudge)
        if record.state is JobState.QUEUED and record.kind.lane is Lane.GENERATE:  # the others never wait in the queue
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
                reader=reader,
                seen=seen,
                after=after,
                present=present,
                reading=reading,
                is_repeat=is_repeat,
            )
        )

    def abandon(self, job: LiveJob, new: NewJob) -> None:
        """The client that waited for the whole answer has gone; end the job at once if nobody can come back for it."""
        job.close()
        if new.can_be_found_again or job.is_repeat:
            return
        try:
            self._store.cancel(job.id)
        except (JobNotFound, RedisError) as err:
            log.warning("job %s: could not be cancelled (%s); it ends after its reader's grace period", job.id, err)

    def note_presence(self) -> None:
        """Note that a process of the API is there; to be repeated at least every second."""
        self._store.note_api()

    def let_go_on(self, job_id: str) -> None:
        """Let the job go on without a reader: its client was told to come back for it."""
        self._store.keep_unread(job_id)

    def get(self, job_id: str, caller: Caller) -> JobRecord:
        """The job's record.

        Raises:
            JobNotFound: no such job, or it is not the caller's: they cannot tell the two apart.
        """
        _check_form(job_id)
        record = self._store.get(job_id)
        if not caller.may_see(record.owner):
            raise JobNotFound(f"There is no job {job_id!r}.")
        return record

    def poll(self, job_id: str, caller: Caller) -> JobView:
        """As `view`, for a client: it counts as a reader. Raises as `get`."""
        record = self.get(job_id, caller)
        if record.needs_reader:
            self._readers.touch(job_id)
        return self._view(record)

    def view(self, job_id: str) -> JobView:
        """The job, whosever it is, its queue position and its text so far.

        Raises:
            JobNotFound: no such job.
        """
        return self._view(self._store.get(job_id))

    def told(self, job_id: str) -> list[Event]:
        """Everything that was told of the job so far, whosever it is."""
        return self._log.read(job_id)

    def _view(self, record: JobRecord) -> JobView:
        return JobView(record, self._queue_position(record), self._text(record).strip())

    def _text(self, record: JobRecord) -> str:
        """The answer so far. Of an ended job the record has it; a log can be long."""
        if record.result and record.kind.lane is Lane.GENERATE:
            return GenerateResult.from_dict(record.result).response
        return events.committed(self._log.read(record.id))[1]

    def _queue_position(self, record: JobRecord) -> QueuePosition | None:
        if record.state is not JobState.QUEUED:
            return None
        return self._store.places([record.id]).get(record.id, DISPATCHED)

    def quarantined(self) -> list[JobRecord]:
        """The jobs that are set aside because they saw too many workers die, oldest first."""
        return self._store.quarantined()

    def retry(self, job_id: str) -> Entered:
        """Enter a job like the one in quarantine, which is dropped from there. Raises as `JobStore.retry`."""
        _check_form(job_id)
        submitted = self._store.retry(job_id, str(uuid.uuid4()), max_queue=self._max_queue)
        return self._entered(submitted)

    def drop(self, job_id: str) -> None:
        """Take a job out of quarantine.

        Raises:
            JobNotFound: it is not in there.
        """
        _check_form(job_id)
        self._store.drop(job_id)

    def usage(self, owner: str) -> Usage:
        """What the owner's ended jobs came to."""
        return Usage(owner, **self._store.usage(owner))

    def newest(self, limit: int, caller: Caller) -> list[JobRecord]:
        """Up to `limit` jobs, newest first: the caller's, or everybody's for an admin."""
        return self._store.newest(limit, owner=None if caller.is_admin else caller.owner)

    def cancel(self, job_id: str, caller: Caller) -> JobState:
        """Ask for the job's end; returns its state right after: RUNNING means that it ends at its next token.

        Raises:
            JobNotFound: no such job, or it is not the caller's.
        """
        return self._store.cancel(self.get(job_id, caller).id)


def _stopping() -> ServerStopping:
    return ServerStopping("The server is being restarted; try again.", retry_after_s=RESTART_S)


def _check_form(job_id: str) -> None:
    """Ids come from URLs and become Redis keys: nothing but an id of ours may reach the store."""
    if not ids.has_form(job_id, ids.UUID):
        raise JobNotFound(f"There is no job {job_id[:60]!r}.")
