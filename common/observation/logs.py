"""Formats log lines in every process: text for people, or one JSON object per line, with context fields.

    log.warning("attempt fenced off", extra=fields(job_id=job.id, attempt=2))

A line carries the fields bound in `context` and those given by `fields`. Prompts, answers and secrets must never appear
in fields or messages.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from common.observation import context

LogFormat = Literal["text", "json"]

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_SHOWN_IN_TEXT = ("request_id", "job_id", "attempt", "worker")


def fields(**given: context.Field) -> dict[str, Any]:
    """Return the `extra` of a log call: fields for this line only."""
    return {"fields": given}


class TextFormatter(logging.Formatter):
    """Formats a line for people; ids that the message does not mention follow it in brackets."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without a traceback."""
        found = _fields_of(record)
        ids = {name: found[name] for name in _SHOWN_IN_TEXT if name in found}
        unnamed = [f"{name}={value}" for name, value in ids.items() if str(value) not in record.message]
        suffix = f" [{' '.join(unnamed)}]" if unnamed else ""
        return super().formatMessage(record) + suffix


class JsonFormatter(logging.Formatter):
    """Formats a JSON object: time (RFC 3339, UTC), level, logger, message, fields, and `exception` (a traceback)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def formatter(log_format: LogFormat) -> logging.Formatter:
    """Return the formatter of that name."""
    return JsonFormatter() if log_format == "json" else TextFormatter()


def configure_logging(level: str, log_format: LogFormat = "text") -> None:
    """Send all loggers of the process, and Python's warnings, to stderr. Called once, by an entry point."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


def _fields_of(record: logging.LogRecord) -> Mapping[str, context.Field]:
    return {**context.current(), **getattr(record, "fields", {})}
