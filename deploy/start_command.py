"""The command that starts the whole server: from a checkout of the project, or from the installed package.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.bootstrap import ROOT

SCRIPT = ROOT / "start_slm_api.py"


def is_checkout() -> bool:
    """Whether this is the project's own folder, which has an environment of its own (`.venv`)."""
    return SCRIPT.is_file()


def command_name() -> str:
    """Return the command as a person types it."""
    return SCRIPT.name if is_checkout() else "slm serve"


def serve_command(arguments: Sequence[str], python: str | Path = sys.executable) -> list[str]:
    """Return the command line that starts the server with these arguments of `deploy.options`."""
    # -P: the user's current folder may have folders with the names of our packages.
    program = [str(SCRIPT)] if is_checkout() else ["-P", "-m", "deploy.start"]
    return [str(python), *program, *arguments]
