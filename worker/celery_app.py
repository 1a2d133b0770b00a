"""The worker as a Celery application: its tasks, and the runtime behind them."""

from __future__ import annotations

from celery import Celery

from common.jobs import JobKind
from common.queue import configure
from common.settings import Settings
from worker.runtime import WorkerRuntime
from worker.serving import Backend
from worker.step import RuntimeStep


class WorkerApp(Celery):
    """The application, its tasks, and the runtime that the bootstep makes when a worker starts."""

    runtime: WorkerRuntime

    def __init__(self, settings: Settings, backend: Backend) -> None:
        super().__init__("slm", set_as_current=False)
        self._runtime_parts = (settings, backend)
        configure(self, settings)
        self.conf.worker_pool = "worker.pool:TaskPool"
        self.conf.worker_consumer = "worker.consumer:PatientConsumer"
        self.steps["worker"].add(RuntimeStep)
        for kind in JobKind:
            self.task(name=kind.task_name)(self._answer_bell)

    def make_runtime(self, worker_id: str) -> WorkerRuntime:
        """Build the worker's parts and keep them where the tasks find them."""
        self.runtime = WorkerRuntime(self, *self._runtime_parts, worker_id)
        return self.runtime

    def _answer_bell(self, job_id: str) -> None:
        self.runtime.answer_bell(job_id)
