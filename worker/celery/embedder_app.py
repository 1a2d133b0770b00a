"""The embedder as a Celery application: its task, and the runtime that handles it."""

from __future__ import annotations

from celery import Celery

from common.embedding.embedders import PLACES
from common.jobs.job import JobKind
from common.queue import EMBED_QUEUE, configure, queues
from common.settings import Settings
from worker.celery.bootstep import RuntimeStep
from worker.embedding.runtime import EmbedderRuntime


class EmbedderApp(Celery):
    """The application, its task, and the runtime, which the bootstep creates when an embedder starts."""

    runtime: EmbedderRuntime

    def __init__(self, settings: Settings) -> None:
        super().__init__("slm", set_as_current=False)
        self._settings = settings
        configure(self, settings)
        self.conf.update(
            task_default_queue=EMBED_QUEUE,
            task_queues=queues(settings, [EMBED_QUEUE]),
            worker_concurrency=PLACES,
            worker_pool="worker.celery.pool:TaskPool",
            worker_consumer="worker.celery.consumer:PatientConsumer",
        )
        self.amqp.queues.select([EMBED_QUEUE])  # else it also consumes the queues to which it sends messages
        self.steps["worker"].add(RuntimeStep)
        self.task(name=JobKind.EMBED.task_name)(self._handle_message)

    def make_runtime(self, embedder_id: str) -> EmbedderRuntime:
        """Create the runtime and keep it for the task."""
        self.runtime = EmbedderRuntime(self, self._settings, embedder_id)
        return self.runtime

    def _handle_message(self, job_id: str) -> None:
        self.runtime.handle_message(job_id)
