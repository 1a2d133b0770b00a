"""Entry point of a worker: `celery -A worker.app worker`. It has an effect at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.settings import Settings
from worker.entry import settings_of

if TYPE_CHECKING:
    from worker.celery.app import WorkerApp


def _from_env() -> WorkerApp:
    settings = settings_of("worker", Settings.of_worker)
    from worker.celery.app import WorkerApp
    from worker.model.loader import ConfiguredModelLoader

    return WorkerApp(settings, ConfiguredModelLoader(settings))


app = _from_env()
