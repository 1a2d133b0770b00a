"""The command line of `start_slm_api.py` and of `slm serve`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.start_command import command_name


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The options of the command line. `host` and `port` are None if `SLM_HOST` and `SLM_PORT` apply.

    `gunicorn` has the arguments of gunicorn if the server was started by the `gunicorn` command.
    """

    host: str | None = None
    port: int | None = None
    workers: int = 1
    debug: bool = False
    insecure: bool = False
    gunicorn: tuple[str, ...] | None = None

    def environment(self) -> dict[str, str]:
        """Return the settings that the command line overrides, as environment variables."""
        asked = {
            "SLM_HOST": self.host,
            "SLM_PORT": None if self.port is None else str(self.port),
            "SLM_LOG_LEVEL": "DEBUG" if self.debug else None,
            "SLM_INSECURE": "true" if self.insecure else None,
        }
        return {name: value for name, value in asked.items() if value is not None}


def parse(argv: Sequence[str] | None = None) -> StartOptions:
    """Parse the command line; prints the usage and exits if it is not valid."""
    asked = vars(_parser().parse_args(argv))
    gunicorn = asked.pop("gunicorn")
    return StartOptions(**asked, gunicorn=None if gunicorn is None else tuple(gunicorn))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command_name(),
        description="Start the server: Redis, Celery workers with the model, and the HTTP API.",
        epilog="All other settings are SLM_* environment variables; see docs/settings.md.",
    )
    parser.add_argument("--host", help="address the API listens on (default: SLM_HOST or 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="port the API listens on (default: SLM_PORT or 5000)")
    parser.add_argument(
        "--workers", type=_count, default=1, help="number of Celery workers; each one loads the model (default: 1)"
    )
    parser.add_argument(
        "--debug", action="store_true", help="set the log level to DEBUG and show all log lines on the console"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="serve other machines without API keys: every client is an admin"
    )
    parser.add_argument("--gunicorn", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)  # gunicorn.conf.py
    return parser


def _port(text: str) -> int:
    return _whole_number(text, 65535)


def _count(text: str) -> int:
    return _whole_number(text, 64)


def _whole_number(text: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
    return int(text)
