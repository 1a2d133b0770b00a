"""The jobs of one request, one per choice."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

from redis.exceptions import RedisError

from api.auth.caller import Caller
from api.jobs.live_job import WAIT_PULSE_S, LiveJob
from api.openai.choices import GeneratedChoice
from api.service import JobService, NewJob
from common.errors import Cancelled, JobNotFound, ServerStopping, SLMError
from common.jobs.events import Event, EventType
from common.jobs.job import JobState
from common.jobs.store import QueuePosition

log = logging.getLogger(__name__)

News = Event | QueuePosition | None  # None: nothing happened for a while


class Generations:
    """Followed jobs. A context manager: leaving it ends the subscriptions.

    Args:
        service: knows the jobs.
        caller: whose jobs they are.
        jobs: what is wanted, one per choice.

    Raises:
        SLMError: one of them cannot be entered; those that were are cancelled.
    """

    def __init__(self, service: JobService, caller: Caller, jobs: Sequence[NewJob]) -> None:
        self._service = service
        self._caller = caller
        self._new_jobs = jobs
        self._jobs: list[LiveJob] = []
        self._is_closed = False
        try:
            for job in jobs:
                self._jobs.append(service.start(job))
        except (SLMError, RedisError) as err:
            self.give_up(err)
            raise

    @property
    def first(self) -> LiveJob:
        """The job that gives the answer its id."""
        return self._jobs[0]

    @property
    def count(self) -> int:
        """How many choices there are."""
        return len(self._jobs)

    def wait(self) -> list[GeneratedChoice]:
        """Wait for the end of all.

        Raises:
            SLMError: a job failed with it; the others are cancelled.
            Cancelled: somebody cancelled a job, or the client has gone.
        """
        try:
            for _, news in self.story(pulse_s=WAIT_PULSE_S):
                if (error := failure(news)) is not None:
                    raise error
            return self._choices()
        except SLMError as err:
            self.give_up(err)
            raise

    def choices(self) -> list[GeneratedChoice]:
        """What they came to, once all have ended. Raises as `wait`."""
        try:
            return self._choices()
        except SLMError as err:
            self.give_up(err)
            raise

    def _choices(self) -> list[GeneratedChoice]:
        return [self._choice(job.id) for job in self._jobs]

    def _choice(self, job_id: str) -> GeneratedChoice:
        return GeneratedChoice.of(self._service.get(job_id, self._caller), self._service.told(job_id))

    def raise_early_error(self, timeout_s: float) -> None:
        """Wait until each has its first token or has ended, `timeout_s` at most.

        Raises:
            SLMError: a job failed before there was anything to show; the others are cancelled.
        """
        deadline = time.monotonic() + timeout_s
        try:
            for job in self._jobs:
                _raise_early_error(job, deadline)
        except SLMError as err:
            self.give_up(err)
            raise

    def story(self, *, pulse_s: float) -> Iterator[tuple[int, News]]:
        """What happens to the jobs, each time with the index of the choice, up to the end of all.

        Raises:
            JobLost: Redis no longer has one of them.
        """
        if len(self._jobs) == 1:
            return ((0, news) for news in self.first.story(pulse_s=pulse_s))
        return self._merged(pulse_s)

    def _merged(self, pulse_s: float) -> Iterator[tuple[int, News]]:
        """One thread a job. What a slow client has not taken waits here: never more than the answers themselves."""
        inbox: queue.SimpleQueue[tuple[int, Event | QueuePosition] | SLMError | None] = queue.SimpleQueue()

        def follow(index: int, job: LiveJob) -> None:
            try:
                for news in job.story(pulse_s=pulse_s):
                    if news is not None:
                        inbox.put((index, news))
            except SLMError as err:
                inbox.put(err)
            inbox.put(None)

        for index, job in enumerate(self._jobs):
            threading.Thread(target=follow, args=(index, job), name="slm-choice", daemon=True).start()
        num_open = len(self._jobs)
        while num_open:
            try:
                news = inbox.get(timeout=pulse_s)
            except queue.Empty:
                yield 0, None
                continue
            if isinstance(news, SLMError):
                raise news
            if news is None:
                num_open -= 1
            else:
                yield news

    def give_up(self, reason: Exception) -> None:
        """Cancel what this request has entered, since it can bring no whole answer; not if its client has gone.

        If the server stops, a client that has a way back finds it again.
        """
        if self._is_closed:
            return
        self.close()
        for job, new in zip(self._jobs, self._new_jobs, strict=False):
            if not job.is_repeat and not (isinstance(reason, ServerStopping) and new.can_be_found_again):
                _cancel(self._service, job.id, self._caller)

    def abandon(self) -> None:
        """The client that waited for the whole answer has gone; end the jobs if nobody can come back for them."""
        self._is_closed = True
        for job, new in zip(self._jobs, self._new_jobs, strict=True):
            self._service.abandon(job, new)

    def close(self) -> None:
        """End the subscriptions; whoever waits is let go. May be called twice and from any thread."""
        self._is_closed = True
        for job in self._jobs:
            job.close()

    def __enter__(self) -> Generations:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()


def failure(news: News) -> SLMError | None:
    """The error that a job has just ended with; a cancelled one has none of its own."""
    if isinstance(news, Event) and news.type is EventType.ERROR:
        return SLMError.from_dict(news.data)
    if isinstance(news, Event) and news.data.get("state") == JobState.CANCELLED:
        return Cancelled("The job was cancelled.")
    return None


def _raise_early_error(job: LiveJob, deadline: float) -> None:
    for event in job.events(pulse_s=max(deadline - time.monotonic(), 0.0)):
        if event is None or event.type is EventType.TOKEN:
            return
        if (error := failure(event)) is not None:
            raise error


def _cancel(service: JobService, job_id: str, caller: Caller) -> None:
    try:
        service.cancel(job_id, caller)
    except (JobNotFound, RedisError) as err:
        log.warning("job %s: could not be cancelled (%s)", job_id, err)
