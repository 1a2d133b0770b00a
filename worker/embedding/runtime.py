"""Creates the parts of an embedder process, starts them and stops them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from celery import Celery
from redis.exceptions import RedisError

from common.embedding.embedders import PLACES, EmbedderReport, Embedders
from common.jobs.job import JobKind
from common.observation.metrics_store import MetricsStore
from common.queue import EMBED_QUEUE, Dispatcher, keys_of
from common.redis.client import connect
from common.redis.outage import Outage
from common.redis.subscriber import Subscriber
from common.settings import Settings
from worker.embedding.jobs import EmbedJobs
from worker.embedding.loading import load_encoder
from worker.embedding.metrics import EmbedderMetrics
from worker.engine.embedding.engine import EmbeddingEngine
from worker.jobs.active import ActiveJob, ActiveJobs, Outcome
from worker.jobs.job_store import job_store
from worker.jobs.patient_redis import PatientRedis
from worker.jobs.runner import JobRunner
from worker.liveness.control import ControlListener
from worker.liveness.heartbeat import Heartbeat
from worker.liveness.process_end import end_process
from worker.liveness.watchdog import Watchdog
from worker.observation.metrics import MetricsReporter

REDIS_RETRIES = 10  # more than the API's, since no client waits for a reply
BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768, "mps": 8192}  # by device; bounds the memory of a batch
RELEASE_S = 1.0  # time to release the jobs; if Redis is away, their leases expire

log = logging.getLogger(__name__)


class EmbedderRuntime:
    """One embedder's parts and their order of start and stop.

    Threads: Celery's pool (one per job), and one each for the engine, the heartbeat, the control listener and the
    subscriber.
    """

    def __init__(self, app: Celery, settings: Settings, embedder_id: str) -> None:
        self._settings = settings
        self._id = embedder_id
        self._report: EmbedderReport | None = None  # None: the model is not loaded yet
        self._takes_jobs = False
        self._draining = threading.Event()
        redis = connect(settings.required_redis_url(), retries=REDIS_RETRIES)
        self.outage = Outage(log)
        dispatch = Dispatcher(app)
        self._store = job_store(settings, redis, dispatch)
        self._embedders = Embedders(redis)
        self._jobs = ActiveJobs()
        self._subscriber = Subscriber(redis, self.outage)
        self._metrics = EmbedderMetrics(lambda: self._engine.num_waiting if self._engine else 0)
        self._watchdog = Watchdog(redis, keys_of(settings, [EMBED_QUEUE]), self._is_free, self._end_process)
        reporter = MetricsReporter(MetricsStore(redis), embedder_id, self._metrics.to_wire)
        self._heartbeat = Heartbeat(
            self._store,
            self._jobs,
            lease_s=settings.lease_s,
            beat=self._beat,
            leave=lambda: self._embedders.leave(embedder_id),
            on_fenced=ActiveJob.fence,
            on_cancel=ActiveJob.cancel,
            duties={"queue not watched": self._watchdog.check, "metrics not reported": reporter.report},
            outage=self.outage,
        )
        self._control: ControlListener | None = None
        self._patient = PatientRedis(redis, self.outage)
        self._patient_jobs = job_store(settings, self._patient, dispatch)
        self._engine: EmbeddingEngine | None = None
        self._runner: JobRunner | None = None

    # -- start and stop ------------------------------------------------------------------------------------------------

    def start(self, interrupted: Callable[[], bool]) -> None:
        """Load the model and start all parts.

        Raises:
            EncoderError: the model cannot be loaded.
        """
        del interrupted
        self._load()
        self._subscriber.start()
        self._control = ControlListener(
            self._subscriber, on_cancel=self._jobs.cancel, on_yield=_ignore, on_pause=_ignore, on_model=_nothing
        )
        self._control.start()
        self._takes_jobs = True
        self._heartbeat.start()
        self._heartbeat.publish()
        with suppress(RedisError):  # the reaper does it too
            self._store.dispatch_due()

    def _load(self) -> None:
        """Load the model and start its engine."""
        encoder, self._report = load_encoder(self._settings, self._id)
        batch_tokens = BATCH_TOKENS[self._report.device.partition(":")[0]]
        self._engine = EmbeddingEngine(encoder, batch_tokens=batch_tokens, note_batch=self._metrics.note_batch)
        self._engine.start()
        jobs = EmbedJobs(self._patient_jobs, self._report.model, encoder, self._engine, self._metrics)
        self._runner = JobRunner(
            self._patient_jobs,
            self._jobs,
            {JobKind.EMBED: jobs.run},
            jobs.run,
            worker_id=self._id,
            lease_s=self._settings.lease_s,
        )

    def begin_drain(self) -> None:
        """Take no more jobs; release those that still run after `SLM_DRAIN_S`. Returns immediately."""
        if self._draining.is_set():
            return
        self._draining.set()
        threading.Thread(target=self._drain, name="slm-drain", daemon=True).start()

    def stop(self) -> None:
        """Stop in order: the jobs, the engine, then the parts that report."""
        self.begin_drain()
        self._jobs.wait_until_empty(self._settings.drain_s + self._settings.lease_s)
        if self._engine is None or self._control is None:
            return  # the model could not be loaded
        self._engine.stop()
        self._control.stop()
        self._heartbeat.stop()
        self._subscriber.stop()

    def handle_message(self, job_id: str) -> None:
        """Run the job, if it waits; called on a pool thread."""
        self._watchdog.note_message()
        if self._runner is not None:
            self._runner.handle_message(job_id, draining=self._draining.is_set())

    # -- calls between the parts ---------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if self._report is not None:
            takes_jobs = self._takes_jobs and not self._draining.is_set()
            self._embedders.beat(replace(self._report, takes_jobs=takes_jobs), ttl_s=self._settings.lease_s)

    def _drain(self) -> None:
        if self._engine is not None:
            self._heartbeat.publish()
        if not self._jobs.wait_until_empty(self._settings.drain_s):
            for job in self._jobs.all():
                job.decide(Outcome.RELEASED)
            self._jobs.wait_until_empty(RELEASE_S)
        self._patient.end_patience()

    def _is_free(self) -> bool:
        """Return whether a wake-up message could be handled now."""
        return self._takes_jobs and not self._draining.is_set() and len(self._jobs.all()) < PLACES

    def _end_process(self) -> None:
        """End, so that the supervisor starts a new embedder; by force if Celery does not react."""
        self.begin_drain()
        end_process(self._settings.drain_s)


def _ignore(_job_id: str) -> None:
    """Do nothing: only generations yield, and only training runs pause."""


def _nothing() -> None:
    """Follow no model: it stays loaded."""
