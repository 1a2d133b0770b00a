"""Translates a gunicorn command line into one of `start_slm_api.py`. Runs in gunicorn's own environment."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from deploy.start_command import serve_command

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - gunicorn's meaning of `-b :5000`


def start_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that starts the whole server with gunicorn's `arguments` for its API.

    Exits with a one-line message if the server cannot listen on the given addresses.
    """
    from gunicorn.config import Config

    binds: list[str] = Config().parser().parse_args(list(arguments)).bind or []
    if len(binds) > 1:
        sys.exit(f"Cannot start: gunicorn got {len(binds)} addresses; this server listens on one.")
    where = _address(binds[0]) if binds else []
    return serve_command([*where, "--gunicorn", *arguments])


def _address(bind: str) -> list[str]:
    from gunicorn.util import parse_address

    try:
        address = parse_address(bind, default_port="8000")
    except RuntimeError as err:
        sys.exit(f"Cannot start: -b {bind}: {err}.")
    if not isinstance(address, tuple):
        sys.exit(f"Cannot start: -b {bind}: the address must be HOST:PORT.")
    host, port = address
    return ["--host", host or ANY_ADDRESS, "--port", str(port)]
