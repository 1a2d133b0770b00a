"""A real trainer process with a fake child: `celery -A tests.fake_trainer worker`."""

from __future__ import annotations

from common.observation.logs import configure_logging
from common.settings import Settings
from tests.fake_training import PROGRAM
from worker.celery.trainer_app import TrainerApp

_settings = Settings.from_env()
configure_logging(_settings.log_level, _settings.log_format)
app = TrainerApp(_settings, PROGRAM)
