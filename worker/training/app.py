"""Entry point of a trainer: `celery -A worker.training.app worker -P solo -Q slm.train`. Has effects at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.entry import settings_of

if TYPE_CHECKING:
    from worker.celery.trainer_app import TrainerApp


def _from_env() -> TrainerApp:
    settings = settings_of("trainer")
    from worker.celery.trainer_app import TrainerApp

    return TrainerApp(settings)


app = _from_env()
