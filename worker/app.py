"""The worker's Celery application: `celery -A worker.app worker`. An entry point: only tests import it."""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery, Task

from common.jobs import JobKind
from common.logs import configure_logging
from common.queue import configure
from common.settings import Settings, SettingsError
from worker.backend import ModelBackend
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
        os.environ["CELERY_CUSTOM_WORKER_POOL"] = "worker.pool:TaskPool"  # Celery knows no other way to name one
        self.conf.worker_pool = "custom"
        self.steps["worker"].add(RuntimeStep)
        for kind in JobKind:
            self.task(name=kind.task_name, bind=True)(_answer_bell)

    def make_runtime(self, worker_id: str) -> WorkerRuntime:
        """Build the worker's parts and keep them where the tasks find them."""
        self.runtime = WorkerRuntime(self, *self._runtime_parts, worker_id)
        return self.runtime


def _answer_bell(task: Task[Any, Any], job_id: str) -> None:
    task.app.runtime.answer_bell(job_id)


def _from_env() -> WorkerApp:
    try:
        settings = Settings.from_env()
    except SettingsError as err:
        sys.exit(f"worker: {err}")
    configure_logging(settings.log_level)
    return WorkerApp(settings, ModelBackend(settings))


app = _from_env()
