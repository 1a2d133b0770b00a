"""The first steps of `start_slm_api.py` and of `slm serve`: reads the command line, switches to the environment.

Standard library only, until the environment exists.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from common.environment import forget_others, ours
from deploy import bootstrap, options
from deploy.setup import settings_check
from deploy.start_command import is_checkout, serve_command


def main(argv: Sequence[str]) -> int:
    """Set up and serve until a stop is requested. Returns the exit status."""
    asked = options.parse(argv)
    try:
        return _start(asked, argv)
    except bootstrap.SetupError as err:
        print(f"Cannot start: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted during the set-up; the next start continues from here.", file=sys.stderr)
        return 130


def _start(asked: options.StartOptions, argv: Sequence[str]) -> int:
    settings_check.check_settings(os.environ)
    python = bootstrap.ensure([bootstrap.SERVE]) if is_checkout() else Path(sys.executable)
    if _is_outside() or _steers_python():
        os.execve(python, serve_command(argv, python), ours(os.environ))  # noqa: S606 - no shell is wanted
    forget_others(os.environ)
    from deploy.processes.serve import serve

    return serve(asked)


def _is_outside() -> bool:
    """Whether this Python is not that of the checkout's own environment. An installed package is always in its own."""
    return is_checkout() and Path(sys.prefix).resolve() != bootstrap.VENV.resolve()


def _steers_python() -> bool:
    """Whether the environment has variables that change what this interpreter runs, such as PYTHONPATH."""
    return any(name.startswith("PYTHON") for name in os.environ)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
