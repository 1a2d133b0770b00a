"""Creates the parts of a trainer process, starts them and stops them."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from celery import Celery
from redis.exceptions import RedisError

from common.errors import JobNotFound
from common.jobs.job import JobKind
from common.observation.metrics_store import MetricsStore
from common.owners.files import FileStore
from common.queue import TRAIN_QUEUE, Dispatcher, keys_of
from common.redis.client import connect
from common.redis.outage import Outage
from common.redis.subscriber import Subscriber
from common.settings import Settings
from common.training.trainers import TrainerReport, Trainers
from worker.jobs.active import ActiveJob, ActiveJobs, Outcome
from worker.jobs.job_store import job_store
from worker.jobs.patient_redis import PatientRedis
from worker.jobs.runner import JobRunner
from worker.liveness.control import ControlListener
from worker.liveness.heartbeat import Heartbeat
from worker.liveness.process_end import end_process
from worker.liveness.watchdog import Watchdog
from worker.observation.metrics import MetricsReporter
from worker.training.folders import RunFolders
from worker.training.jobs import TrainingJobs
from worker.training.metrics import TrainerMetrics
from worker.training.process import CHILD

REDIS_RETRIES = 10  # more than the API's, since no client waits for a reply
TIDY_EVERY_S = 60.0

log = logging.getLogger(__name__)


class TrainerRuntime:
    """One trainer's parts and their order of start and stop.

    Threads: the main one, which takes messages and runs jobs, and one each for the heartbeat, the control listener and
    the subscriber.

    Args:
        app: sends wake-up messages.
        settings: of this process.
        trainer_id: unique.
        program: of the child processes.
    """

    def __init__(self, app: Celery, settings: Settings, trainer_id: str, program: Sequence[str] = CHILD) -> None:
        self._settings = settings
        self._identity = TrainerReport(trainer_id, socket.gethostname(), os.getpid(), settings.train_device)
        self._takes_jobs = False
        self._draining = threading.Event()
        self._tidied_at = 0.0
        redis = connect(settings.required_redis_url(), retries=REDIS_RETRIES)
        self.outage = Outage(log)
        dispatch = Dispatcher(app)
        self._store = job_store(settings, redis, dispatch)
        self._trainers = Trainers(redis)
        self._jobs = ActiveJobs()
        self._subscriber = Subscriber(redis, self.outage)
        self._metrics = TrainerMetrics()
        self._folders = RunFolders(
            settings.data_dir / "training",
            max_bytes=settings.train_disk,
            is_known=self._is_known,
            is_open=self._is_open,
        )
        self._watchdog = Watchdog(redis, keys_of(settings, [TRAIN_QUEUE]), self._is_free, self._end_process)
        reporter = MetricsReporter(MetricsStore(redis), trainer_id, self._metrics.to_wire)
        self._heartbeat = Heartbeat(
            self._store,
            self._jobs,
            lease_s=settings.lease_s,
            beat=self._beat,
            leave=lambda: self._trainers.leave(trainer_id),
            on_fenced=ActiveJob.fence,
            on_cancel=ActiveJob.cancel,
            duties={
                "pauses not looked for": self._look_for_pauses,
                "queue not watched": self._watchdog.check,
                "metrics not reported": reporter.report,
                "folders not tidied": self._tidy,
            },
            outage=self.outage,
        )
        self._control: ControlListener | None = None
        self._patient = PatientRedis(redis, self.outage)
        jobs = job_store(settings, self._patient, dispatch)
        files = FileStore(self._patient, ttl_s=settings.file_ttl_s)
        self._training = TrainingJobs(
            jobs, files, self._folders, self._metrics, stop_s=max(1.0, settings.drain_s), program=program
        )
        run = {JobKind.TRAIN: self._training.run, JobKind.EVALUATE: self._training.run}
        self._runner = JobRunner(
            jobs, self._jobs, run, self._training.run, worker_id=trainer_id, lease_s=settings.lease_s
        )

    # -- start and stop ------------------------------------------------------------------------------------------------

    def start(self, interrupted: Callable[[], bool]) -> None:
        """Start all parts; return when the trainer can take jobs."""
        del interrupted  # it takes no time
        self._subscriber.start()
        self._control = ControlListener(
            self._subscriber, on_cancel=self._jobs.cancel, on_pause=self._pause_id, on_yield=_ignore, on_model=_nothing
        )
        self._control.start()
        self._takes_jobs = True
        self._heartbeat.start()
        self._heartbeat.publish()
        with suppress(RedisError):  # the reaper does it too
            self._store.dispatch_due()

    def begin_drain(self) -> None:
        """Take no more jobs; hand the present one back at its next checkpoint. Returns immediately."""
        if self._draining.is_set():
            return
        self._draining.set()
        threading.Thread(target=self._drain, name="slm-drain", daemon=True).start()

    def stop(self) -> None:
        """Stop in order: the job, then the parts that report."""
        self.begin_drain()
        self._jobs.wait_until_empty(self._settings.drain_s + self._settings.lease_s)
        if self._control is not None:
            self._control.stop()
        self._heartbeat.stop()
        self._subscriber.stop()

    def handle_message(self, job_id: str) -> None:
        """Run the job, if it waits."""
        self._watchdog.note_message()
        self._runner.handle_message(job_id, draining=self._draining.is_set())

    # -- calls between the parts ---------------------------------------------------------------------------------------

    def _beat(self) -> None:
        running = self._jobs.all()
        report = TrainerReport(
            self._identity.id,
            self._identity.host,
            self._identity.pid,
            self._identity.device,
            job_id=running[0].id if running else None,
            takes_jobs=self._takes_jobs and not self._draining.is_set(),
        )
        self._trainers.beat(report, ttl_s=self._settings.lease_s)

    def _pause_id(self, job_id: str) -> None:
        if self._jobs.of_job(job_id):
            self._training.pause()

    def _look_for_pauses(self) -> None:
        """Find the requests whose messages were lost."""
        for job in self._jobs.all():
            if self._store.is_to_pause(job.id):
                self._training.pause()

    def _tidy(self) -> None:
        if time.monotonic() - self._tidied_at >= TIDY_EVERY_S:
            self._tidied_at = time.monotonic()
            self._folders.tidy()

    def _is_known(self, job_id: str) -> bool:
        try:
            self._store.get(job_id)
        except JobNotFound:
            return False
        return True

    def _is_open(self, job_id: str) -> bool:
        try:
            return not self._store.get(job_id).state.is_terminal
        except JobNotFound:
            return False

    def _drain(self) -> None:
        self._heartbeat.publish()
        for job in self._jobs.all():
            job.decide(Outcome.RELEASED)
        self._jobs.wait_until_empty(self._settings.drain_s)
        self._patient.end_patience()

    def _is_free(self) -> bool:
        """Return whether a wake-up message could be handled now."""
        return self._takes_jobs and not self._draining.is_set() and not self._jobs.all()

    def _end_process(self) -> None:
        """End, so that the supervisor starts a new trainer; by force if Celery does not react."""
        self.begin_drain()
        end_process(self._settings.drain_s)


def _ignore(_job_id: str) -> None:
    """Yield nothing: a run needs no reader."""


def _nothing() -> None:
    """Follow no model: each run loads its own."""
