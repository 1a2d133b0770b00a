"""The trainer as a Celery application: its tasks, and the runtime that handles them."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery

from common.jobs.job import JobKind, Lane
from common.queue import TRAIN_QUEUE, configure, queues
from common.settings import Settings
from worker.celery.bootstep import RuntimeStep
from worker.training.process import CHILD
from worker.training.runtime import TrainerRuntime


class TrainerApp(Celery):
    """The application, its tasks, and the runtime, which the bootstep creates when a trainer starts."""

    runtime: TrainerRuntime

    def __init__(self, settings: Settings, program: Sequence[str] = CHILD) -> None:
        super().__init__("slm", set_as_current=False)
        self._runtime_parts = (settings, program)
        configure(self, settings)
        self.conf.update(
            task_default_queue=TRAIN_QUEUE,
            task_queues=queues(settings, [TRAIN_QUEUE]),
            worker_pool="solo",
            worker_consumer="worker.celery.consumer:PatientConsumer",
        )
        self.amqp.queues.select([TRAIN_QUEUE])  # else it also consumes the queues to which it sends messages
        self.steps["worker"].add(RuntimeStep)
        for kind in JobKind:
            if kind.lane is Lane.TRAIN:
                self.task(name=kind.task_name)(self._handle_message)

    def make_runtime(self, trainer_id: str) -> TrainerRuntime:
        """Create the runtime and keep it for the tasks."""
        settings, program = self._runtime_parts
        self.runtime = TrainerRuntime(self, settings, trainer_id, program)
        return self.runtime

    def _handle_message(self, job_id: str) -> None:
        self.runtime.handle_message(job_id)
