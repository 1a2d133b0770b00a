"""Creates the parts of a worker process, starts them and stops them. No other module knows all of them."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from celery import Celery
from redis.exceptions import RedisError

from common.adapters.names import DEFAULT_ALIAS
from common.adapters.registry import AdapterRegistry
from common.adapters.uploads import Uploads
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs.event_log import EventLog
from common.jobs.job import JobKind
from common.observation.metrics_store import MetricsStore
from common.observation.tracing import start_tracing
from common.owners.files import FileStore
from common.queue import SPARE_THREADS, Dispatcher, keys_of, worker_queues
from common.redis.client import connect
from common.redis.outage import Outage
from common.redis.subscriber import Subscriber
from common.settings import Settings
from worker.jobs.active import ActiveJob, ActiveJobs, Outcome
from worker.jobs.check_dataset import DatasetJobs
from worker.jobs.generate import Generation
from worker.jobs.job_store import job_store
from worker.jobs.load import ModelJobs
from worker.jobs.observer import Observer
from worker.jobs.patient_redis import PatientRedis
from worker.jobs.prepare import Preparation
from worker.jobs.publish import PublishJobs
from worker.jobs.publisher import Publisher
from worker.jobs.runner import JobRunner
from worker.jobs.tokenize import TokenJobs
from worker.liveness.control import ControlListener
from worker.liveness.heartbeat import Heartbeat
from worker.liveness.process_end import end_process
from worker.liveness.watchdog import Watchdog
from worker.model.adapter_files import AdapterFiles
from worker.model.archives import Archives
from worker.model.base_choice import BaseChoice
from worker.model.folders import AdapterFolders
from worker.model.intake import AdapterIntake
from worker.model.manager import ModelManager
from worker.model.protocols import LoadedModel, ModelContent, ModelLoader
from worker.observation.metrics import MetricsReporter, WorkerMetrics
from worker.observation.traces import Traces

REDIS_RETRIES = 10  # more than the API's, since no client waits for a reply
SETTLE_POLL_S = 0.2
RELEASE_S = 1.0  # time to release the jobs; if Redis is away, their leases expire

log = logging.getLogger(__name__)


class WorkerRuntime:
    """One worker's parts and their order of start and stop.

    Threads: Celery's pool (one per job), and one each for the engine, the publisher, the model manager, the heartbeat,
    the control listener and the subscriber.
    """

    def __init__(self, app: Celery, settings: Settings, model_loader: ModelLoader, worker_id: str) -> None:
        self._settings = settings
        self._model_loader = model_loader
        self._identity = WorkerReport(worker_id, socket.gethostname(), os.getpid(), base=settings.lane_base)
        self._takes_jobs = False
        self._draining = threading.Event()
        self._metrics = WorkerMetrics(lambda: self._model_manager.status.model)
        redis = connect(settings.required_redis_url(), retries=REDIS_RETRIES, trouble=self._metrics.redis_trouble)
        self.outage = Outage(log)
        dispatch = Dispatcher(app)
        store = job_store(settings, redis, dispatch)
        fleet = Fleet(redis, settings.lane_base)
        self._store, self._fleet = store, fleet
        self._registry = AdapterRegistry(redis)
        self._jobs = ActiveJobs()
        self._subscriber = Subscriber(redis, self.outage)
        self._publisher = Publisher(store, self._jobs, ActiveJob.fence, self._metrics, self.outage)
        self._watchdog = Watchdog(
            redis, keys_of(settings, worker_queues(settings.lane_base)), self._is_free, self._on_stall
        )
        metrics = MetricsReporter(MetricsStore(redis), worker_id, self._metrics.to_wire)
        self._heartbeat = Heartbeat(
            store,
            self._jobs,
            lease_s=settings.lease_s,
            beat=lambda: fleet.beat(self.report(), ttl_s=settings.lease_s),
            leave=lambda: fleet.leave(worker_id),
            on_fenced=ActiveJob.fence,
            on_cancel=ActiveJob.cancel,
            duties={
                "queue not watched": self._watchdog.check,
                "metrics not reported": metrics.report,
                "waiting jobs not adopted": self._adopt_jobs,
                "idle model not unloaded": self._unload_if_idle,
            },
            outage=self.outage,
        )
        self._model_manager = ModelManager(
            fleet, self._load, self._content, self._pins, self._heartbeat.publish, self.outage
        )
        files = AdapterFiles.from_settings(settings)
        others = {base.name for base in settings.bases} - {settings.own_base.name}
        intake = AdapterIntake(self._registry, files.store, model_loader.base, files.offer, other_bases=others)
        uploads = Uploads(settings.data_dir / "uploads")
        choice = BaseChoice(settings, model_loader.base)
        self._folders = AdapterFolders(
            settings,
            intake,
            lambda: uploads.tidy(store.is_open),
            self.outage,
            is_elsewhere=choice.names_another,
        )
        self._control: ControlListener | None = None
        self._tracer = start_tracing(settings, "slm-worker")
        observer = Observer(self._metrics, Traces(self._tracer, worker_id))
        self._patient = PatientRedis(redis, self.outage)
        jobs = job_store(settings, self._patient, dispatch)
        generation = Generation(
            jobs, EventLog(self._patient, self._subscriber), self._model_manager, observer, settings.reasoning_parser
        )
        model_jobs = ModelJobs(jobs, Fleet(self._patient, settings.lane_base), settings.bases[0].name)
        archives = Archives(uploads, files.api)
        runs = settings.data_dir / "training"
        publishing = PublishJobs(jobs, intake, archives, runs, choice, max_bytes=settings.max_adapter_bytes)
        datasets = FileStore(self._patient, ttl_s=settings.file_ttl_s)
        run = {
            JobKind.GENERATE: generation.run,
            JobKind.STREAM: generation.run,
            JobKind.LOAD: model_jobs.run,
            JobKind.UNLOAD: model_jobs.run,
            JobKind.PUBLISH: publishing.run,
            JobKind.TOKENIZE: TokenJobs(jobs, self._model_manager).run,
            JobKind.CHECK_DATASET: DatasetJobs(jobs, datasets, self._model_manager).run,
        }
        prepare = Preparation(jobs, self._model_manager, settings.reasoning_parser).run
        self._runner = JobRunner(jobs, self._jobs, run, prepare, worker_id=worker_id, lease_s=settings.lease_s)

    # -- start and stop ------------------------------------------------------------------------------------------------

    def start(self, interrupted: Callable[[], bool]) -> None:
        """Start all parts; return when the desired state is reached, or as soon as `interrupted` returns True."""
        self._heartbeat.start()
        self._heartbeat.publish()  # seen by the API before the slow imports
        self._subscriber.start()
        self._control = ControlListener(
            self._subscriber,
            on_cancel=self._jobs.cancel,
            on_yield=self._release_id,
            on_pause=_no_run,
            on_model=self._model_manager.nudge,
        )
        self._control.start()
        self._publisher.start()
        self._identity = self._identity.but(
            cuda_available=self._model_loader.accelerators.cuda, mps_available=self._model_loader.accelerators.mps
        )
        self._note_model()
        self._model_manager.start()
        while not self._model_manager.wait_until_settled(SETTLE_POLL_S) and not interrupted():
            pass
        self._folders.start()
        self._takes_jobs = True
        self._heartbeat.publish()
        with suppress(RedisError):  # the heartbeat and the reaper do it too
            self._adopt_jobs()
            self._store.dispatch_due()

    def begin_drain(self, grace_s: float | None = None) -> None:
        """Take no more jobs; release those that still run after `grace_s`. Returns immediately."""
        if self._draining.is_set():
            return
        self._draining.set()
        grace = self._settings.drain_s if grace_s is None else grace_s
        threading.Thread(target=self._drain, args=(grace,), name="slm-drain", daemon=True).start()

    def stop(self) -> None:
        """Stop in order: the jobs, then the model, then the parts that report."""
        self.begin_drain()
        self._jobs.wait_until_empty(self._settings.drain_s + self._settings.lease_s)
        if self._control is not None:
            self._control.stop()
            self._model_manager.stop()
            self._folders.stop()
            self._publisher.stop()
        self._heartbeat.stop()
        self._subscriber.stop()
        if self._tracer is not None:
            self._tracer.close()

    def handle_message(self, job_id: str) -> None:
        """Run the job, if it waits; called on a pool thread."""
        self._watchdog.note_message()
        self._runner.handle_message(job_id, draining=self._draining.is_set())

    def report(self) -> WorkerReport:
        """Return the worker's current report."""
        status = self._model_manager.status
        draining = self._draining.is_set()
        model = status.model
        return self._identity.but(
            state=WorkerState.DRAINING if draining else status.state,
            slots=self._settings.max_num_seqs if self._takes_jobs and not draining else 0,
            running=len(self._jobs.all()),
            generation=status.generation,
            error=status.error.message if status.error else None,
            dtype=model.dtype if model else None,
            context=model.context if model else None,
            license=model.card.license if model else None,
            parameters=model.card.parameters if model else None,
            model_bytes=model.card.bytes if model else None,
            base_id=status.content.base if status.content else None,
            adapter_id=status.content.adapter if status.content else None,
            adapters=list(model.adapters.ids) if model else [],
        )

    # -- calls between the parts ---------------------------------------------------------------------------------------

    def _note_model(self) -> None:
        """Report the model that would be loaded now: an adapter may have been trained since the last load."""
        spec = self._model_loader.spec()
        self._identity = self._identity.but(device=spec.device, base_model=spec.base_model, lora_path=spec.lora_path)

    def _load(self) -> LoadedModel:
        self._note_model()
        return self._model_loader.load(self._publisher.deliver, self._on_fatal, self._metrics)

    def _content(self) -> ModelContent:
        """Register the base model and the adapters on the disk, and return what is there."""
        self._folders.register()
        return self._model_loader.content()

    def _pins(self) -> list[str]:
        """Return the ids of the adapters that aliases point to, that of `default` first."""
        names = sorted(
            (alias.name for alias in self._registry.aliases()), key=lambda name: (name != DEFAULT_ALIAS, name)
        )
        found = self._registry.resolve_all(names)
        own = self._settings.lane_base
        return [one.adapter_id for one in found if one is not None and one.adapter_id and own in ("", one.base)]

    def _adopt_jobs(self) -> None:
        """Take over the jobs of this base model that wait where no worker looks."""
        if self._takes_jobs and not self._draining.is_set():
            own = self._settings.own_base
            self._store.adopt(own.name, self._settings.lane_base, is_default=own == self._settings.bases[0])

    def _unload_if_idle(self) -> None:
        if self._settings.keep_alive_s is not None and self._takes_jobs:
            self._fleet.unload_if_idle(self._settings.keep_alive_s)

    def _release_id(self, job_id: str) -> None:
        """Release a job that nobody reads, because others need its capacity."""
        for job in self._jobs.of_job(job_id):
            job.decide(Outcome.RELEASED)

    def _drain(self, grace_s: float) -> None:
        self._heartbeat.publish()
        if self._jobs.wait_until_empty(grace_s):
            self._patient.end_patience()
            return
        left = self._jobs.all()
        log.info("releasing %d jobs", len(left))
        for job in left:
            job.decide(Outcome.RELEASED)
        self._jobs.wait_until_empty(RELEASE_S)
        self._patient.end_patience()

    def _is_free(self) -> bool:
        """Return whether a wake-up message could be handled now."""
        is_taking = self._takes_jobs and not self._draining.is_set()
        return is_taking and len(self._jobs.all()) < self._settings.max_num_seqs + SPARE_THREADS

    def _on_stall(self) -> None:
        self._end_process(grace_s=self._settings.drain_s)

    def _on_fatal(self, error: Exception) -> None:
        log.critical("the engine died: %s", error)
        self._end_process(grace_s=0)

    def _end_process(self, grace_s: float) -> None:
        """Release the jobs and end, so that the supervisor starts a new worker; by force if Celery does not react."""
        self.begin_drain(grace_s)
        end_process(grace_s)


def _no_run(_job_id: str) -> None:
    """Pause nothing: workers do not train."""
