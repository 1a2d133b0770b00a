"""Runs the whole test suite or checks a running server, for `test_slm_api.py`.

Standard library only.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from deploy import bootstrap, suite
from deploy.check import check_server

DEFAULT_URL = "http://127.0.0.1:5000"
KEY_VARIABLE = "API_KEY"  # not a command line option: every user of the machine can read command lines


def main(argv: Sequence[str]) -> int:
    """Return the exit status: pytest's own, or for a running server 0 if every check passed, else 1."""
    asked = _parser().parse_args(argv)
    if asked.url is not None or asked.prompt is not None:
        return _check(
            asked.url or DEFAULT_URL, asked.prompt or check_server.DEFAULT_PROMPT, os.environ.get(KEY_VARIABLE)
        )
    try:
        python = bootstrap.ensure([bootstrap.SERVE, bootstrap.TEST])
    except bootstrap.SetupError as err:
        print(f"Cannot set up the tests: {err}", file=sys.stderr)
        return 1
    if asked.pytest_arguments:
        _become_pytest(python, asked.pytest_arguments)
    with suite.pytest_of(python) as start:
        return suite.run_suite(start, print)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="test_slm_api.py",
        description="Run the test suite, or check a running server (--url, --prompt).",
        epilog=f"If the server has API keys, set the environment variable {KEY_VARIABLE} to an admin's key.",
    )
    parser.add_argument("--url", help=f"address of the server to check (default with --prompt: {DEFAULT_URL})")
    parser.add_argument("--prompt", help="prompt to check the running server with")
    parser.add_argument("pytest_arguments", nargs="*", metavar="-- ARGUMENT", help="arguments for pytest")
    return parser


def _become_pytest(python: Path, arguments: Sequence[str]) -> NoReturn:
    """Replace this process with pytest: its exit status becomes ours, and only it receives a Ctrl-C."""
    os.chdir(bootstrap.ROOT)
    os.execv(python, [str(python), "-m", "pytest", *arguments])  # noqa: S606 - no shell is wanted


def _check(url: str, prompt: str, api_key: str | None) -> int:
    try:
        return 0 if check_server.check_server(url, prompt, print, api_key=api_key) else 1
    except OSError as err:
        print(f"No server answers at {url} ({err}). Start one with: python start_slm_api.py", file=sys.stderr)
        return 1
