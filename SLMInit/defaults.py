"""The server's settings, for the options that a command leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from SLMInit.errors import FineTuningError

if TYPE_CHECKING:
    from common.settings import Settings


def read_settings() -> Settings:
    """Read the `SLM_*` environment variables.

    Raises:
        FineTuningError: one of them is unknown or has a value that cannot be used.
    """
    from common.settings import Settings, SettingsError

    try:
        return Settings.from_env()
    except SettingsError as err:
        raise FineTuningError(str(err)) from err
