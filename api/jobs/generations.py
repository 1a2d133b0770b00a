"""Submits and follows the jobs of one request, one per choice."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType

from redis.exceptions import RedisError

from api.auth.caller import Caller
from api.jobs.choices import GeneratedChoice
from api.jobs.live_job import WAIT_PULSE_S, LiveJob
from api.service import JobService, NewJob
from common.errors import Cancelled, JobNotFound, ServerStopping, SLMError
from common.jobs.event_log import PAUSE, Pause
from common.jobs.events import Event, EventType
from common.jobs.job import JobState
from common.jobs.store import QueuePosition

log = logging.getLogger(__name__)

Update = Event | QueuePosition | None  # None: nothing happened for a while


class Generations:
    """The jobs of a request. A context manager: exiting it ends the subscriptions.

    Args:
        service: submits the jobs.
        caller: the owner of the jobs.
        jobs: the jobs to submit, one per choice.

    Raises:
        SLMError: a job could not be submitted; the others were cancelled.
    """

    def __init__(self, service: JobService, caller: Caller, jobs: Sequence[NewJob]) -> None:
        self._service = service
        self._caller = caller
        self._new_jobs = jobs
        self._jobs: list[LiveJob] = []
        self._is_closed = False
        try:
            for job in jobs:
                self._jobs.append(service.start(self._like_first(job)))
        except (SLMError, RedisError) as err:
            self.give_up(err)
            raise

    def _like_first(self, job: NewJob) -> NewJob:
        """Return the job with the model version of the first, because an alias can move in between."""
        model = self._jobs[0].model if self._jobs else ""
        return replace(job, options=replace(job.options, model=model)) if model else job

    @property
    def first(self) -> LiveJob:
        """The job that gives the response its id."""
        return self._jobs[0]

    @property
    def count(self) -> int:
        """The number of choices."""
        return len(self._jobs)

    @property
    def job_ids(self) -> list[str]:
        """The ids of the jobs, one per choice."""
        return [job.id for job in self._jobs]

    def wait(self) -> list[GeneratedChoice]:
        """Wait until all jobs have ended; return their results.

        Raises:
            SLMError: a job failed with this error; the others are cancelled.
            Cancelled: somebody cancelled a job, or the client has disconnected.
        """
        try:
            for _, update in self.event_stream(pulse_s=WAIT_PULSE_S):
                if (error := failure(update)) is not None:
                    raise error
            return self._choices()
        except SLMError as err:
            self.give_up(err)
            raise

    def choices(self) -> list[GeneratedChoice]:
        """Return the results after all jobs have ended. Raises as `wait`."""
        try:
            return self._choices()
        except SLMError as err:
            self.give_up(err)
            raise

    def _choices(self) -> list[GeneratedChoice]:
        return [self._choice(job.id) for job in self._jobs]

    def _choice(self, job_id: str) -> GeneratedChoice:
        return GeneratedChoice.of(self._service.get(job_id, self._caller), self._service.logged_events(job_id))

    def raise_early_error(self, timeout_s: float) -> None:
        """Wait, for at most `timeout_s`, until each job has its first token or has ended.

        Raises:
            SLMError: a job failed before its first token; the others are cancelled.
        """
        deadline = time.monotonic() + timeout_s
        try:
            for job in self._jobs:
                _raise_early_error(job, deadline)
        except SLMError as err:
            self.give_up(err)
            raise

    def event_stream(self, *, pulse_s: float) -> Iterator[tuple[int, Update]]:
        """Yield the updates of all jobs, each with the index of its choice, until all have ended.

        Raises:
            JobLost: Redis no longer has one of the jobs.
        """
        return ((index, update) for index, update in self.updates(pulse_s=pulse_s) if update is not PAUSE)

    def updates(self, *, pulse_s: float) -> Iterator[tuple[int, Update | Pause]]:
        """Yield the `event_stream`, and `PAUSE` after updates if the next one is not there yet."""
        if len(self._jobs) == 1:
            return ((0, update) for update in self.first.updates(pulse_s=pulse_s))
        return self._merged(pulse_s)

    def _merged(self, pulse_s: float) -> Iterator[tuple[int, Update | Pause]]:
        """Follow each job on its own thread. Updates for a slow client wait here, never more than the answers' size."""
        inbox: queue.SimpleQueue[tuple[int, Event | QueuePosition | Pause] | Exception | None] = queue.SimpleQueue()

        def follow(index: int, job: LiveJob) -> None:
            try:
                for update in job.updates(pulse_s=pulse_s):
                    if update is not None:
                        inbox.put((index, update))
            except Exception as err:  # the reader raises it: without this thread it would wait forever
                inbox.put(err)
            inbox.put((index, PAUSE))
            inbox.put(None)

        for index, job in enumerate(self._jobs):
            threading.Thread(target=follow, args=(index, job), name="slm-choice", daemon=True).start()
        num_open = len(self._jobs)
        while num_open:
            try:
                update = inbox.get(timeout=pulse_s)
            except queue.Empty:
                yield 0, None
                continue
            if isinstance(update, Exception):
                raise update
            if update is None:
                num_open -= 1
            else:
                yield update

    def give_up(self, reason: Exception) -> None:
        """Cancel the request's jobs after an error, because there can be no complete response; not after a disconnect.

        If the server stops, jobs that the client can find again are not cancelled.
        """
        if self._is_closed:
            return
        self.close()
        for job, new in zip(self._jobs, self._new_jobs, strict=False):
            if not job.is_repeat and not (isinstance(reason, ServerStopping) and new.can_be_resumed):
                _cancel(self._service, job.id, self._caller)

    def abandon(self) -> None:
        """Stop following after the client has disconnected; cancel jobs that nobody can find again."""
        self._is_closed = True
        for job, new in zip(self._jobs, self._new_jobs, strict=True):
            self._service.abandon(job, new)

    def close(self) -> None:
        """End the subscriptions, and the iteration of a reader. May be called twice and from any thread."""
        self._is_closed = True
        for job in self._jobs:
            job.close()

    def __enter__(self) -> Generations:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()


def failure(update: Update) -> SLMError | None:
    """Return the error with which a job has just ended, or `Cancelled`; None if the update is something else."""
    if isinstance(update, Event) and update.type is EventType.ERROR:
        return SLMError.from_dict(update.data)
    if isinstance(update, Event) and update.data.get("state") == JobState.CANCELLED:
        return Cancelled("The job was cancelled.")
    return None


def _raise_early_error(job: LiveJob, deadline: float) -> None:
    for event in job.early_events(pulse_s=max(deadline - time.monotonic(), 0.0)):
        if event is None or event.type is EventType.TOKEN:
            return
        if (error := failure(event)) is not None:
            raise error


def _cancel(service: JobService, job_id: str, caller: Caller) -> None:
    try:
        service.cancel(job_id, caller)
    except (JobNotFound, RedisError) as err:
        log.warning("job %s: could not be cancelled (%s)", job_id, err)
