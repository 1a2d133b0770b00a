"""What the entry points of the Celery processes have in common."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

from celery.exceptions import SecurityWarning

from common.environment import forget_others
from common.observation.logs import configure_logging
from common.observation.tracing import check_tracing
from common.settings import Settings, SettingsError


def _unchanged(settings: Settings) -> Settings:
    return settings


def settings_of(process: str, own: Callable[[Settings], Settings] = _unchanged) -> Settings:
    """Read the settings and configure the logging; a wrong setting ends the process with one line that names it.

    `own` returns the process's own settings, and may raise `SettingsError`.

    Celery imports the entry point before it reads its command-line options, and the variables that replace them.
    """
    forget_others(os.environ)
    warnings.simplefilter("ignore", SecurityWarning)  # about pickles read as root: none are accepted (`accept_content`)
    try:
        settings = own(Settings.from_env())
        check_tracing(settings)
        settings.required_redis_url()
    except SettingsError as err:
        sys.exit(f"{process}: {err}")
    configure_logging(settings.log_level, settings.log_format)
    return settings
