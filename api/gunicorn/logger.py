"""gunicorn's own log lines in the form of all the others."""

from __future__ import annotations

from gunicorn.config import Config
from gunicorn.glogging import Logger

from common.observation.logs import LogFormat, formatter


class FormattedLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger; a subclass per format, since gunicorn makes the object itself."""

    log_format: LogFormat = "text"

    def setup(self, cfg: Config) -> None:
        """Set the handlers up as gunicorn does, and give them our formatter."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter(self.log_format))


class JsonLogger(FormattedLogger):
    """Writes JSON."""

    log_format: LogFormat = "json"
