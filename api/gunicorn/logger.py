"""Formats gunicorn's own log lines like all others."""

from __future__ import annotations

from gunicorn.config import Config
from gunicorn.glogging import Logger

from common.observation.logs import LogFormat, formatter


class FormattedLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger; one subclass per format, because gunicorn creates the object itself."""

    log_format: LogFormat = "text"

    def setup(self, cfg: Config) -> None:
        """Set up the handlers as gunicorn does, with our formatter."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter(self.log_format))


class JsonLogger(FormattedLogger):
    """Writes JSON."""

    log_format: LogFormat = "json"
