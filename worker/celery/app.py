"""The worker as a Celery application: its tasks, and the runtime that handles them."""

from __future__ import annotations

from celery import Celery

from common.jobs.job import JobKind
from common.queue import configure, worker_queues
from common.settings import Settings
from worker.celery.bootstep import RuntimeStep
from worker.model.protocols import ModelLoader
from worker.runtime import WorkerRuntime


class WorkerApp(Celery):
    """The application, its tasks, and the runtime, which the bootstep creates when a worker starts."""

    runtime: WorkerRuntime

    def __init__(self, settings: Settings, model_loader: ModelLoader) -> None:
        super().__init__("slm", set_as_current=False)
        self._runtime_parts = (settings, model_loader)
        configure(self, settings)
        self.amqp.queues.select(
            worker_queues(settings.lane_base)
        )  # else it also consumes the queues to which it sends messages
        self.conf.worker_pool = "worker.celery.pool:TaskPool"
        self.conf.worker_consumer = "worker.celery.consumer:PatientConsumer"
        self.steps["worker"].add(RuntimeStep)
        for kind in JobKind:
            self.task(name=kind.task_name)(self._handle_message)

    def make_runtime(self, worker_id: str) -> WorkerRuntime:
        """Create the runtime and keep it for the tasks."""
        self.runtime = WorkerRuntime(self, *self._runtime_parts, worker_id)
        return self.runtime

    def _handle_message(self, job_id: str) -> None:
        self.runtime.handle_message(job_id)
