"""Entry point of a worker: `celery -A worker.app worker`. The only module of the worker with an effect at import."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

from celery.exceptions import SecurityWarning

from common.environment import forget_others
from common.observation.logs import configure_logging
from common.observation.tracing import check_tracing
from common.settings import Settings, SettingsError

if TYPE_CHECKING:
    from worker.celery.app import WorkerApp


def _from_env() -> WorkerApp:
    """Celery imports this module before it reads its command-line options, and the variables that replace them."""
    forget_others(os.environ)
    warnings.simplefilter("ignore", SecurityWarning)  # about pickles read as root: none are accepted (`accept_content`)
    from worker.celery.app import WorkerApp
    from worker.model.loader import ConfiguredModelLoader

    try:
        settings = Settings.from_env().of_worker()
        check_tracing(settings)
        settings.required_redis_url()
    except SettingsError as err:
        sys.exit(f"worker: {err}")
    configure_logging(settings.log_level, settings.log_format)
    return WorkerApp(settings, ConfiguredModelLoader(settings))


app = _from_env()
