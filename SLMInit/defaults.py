"""Reads the server's settings, which are the defaults of options that a command does not set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import FineTuningError

if TYPE_CHECKING:
    from common.settings import Settings


def read_settings() -> Settings:
    """Read the `SLM_*` environment variables.

    Raises:
        FineTuningError: a variable is unknown or has an invalid value.
    """
    from common.settings import Settings, SettingsError

    try:
        return Settings.from_env()
    except SettingsError as err:
        raise FineTuningError(str(err)) from err
