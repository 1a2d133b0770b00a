"""What `start_slm_api.py` does first: read the command line, make the environment, change into it.

Standard library only, until the environment is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from common.environment import ours
from deploy import bootstrap, options, settings_check

SCRIPT = bootstrap.ROOT / "start_slm_api.py"


def main(argv: Sequence[str]) -> int:
    """Set up and serve until told to stop. Returns the exit status."""
    asked = options.parse(argv)
    try:
        return _start(asked, argv)
    except bootstrap.SetupError as err:
        print(f"Cannot start: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted while setting up; the next start goes on from here.", file=sys.stderr)
        return 130


def _start(asked: options.StartOptions, argv: Sequence[str]) -> int:
    settings_check.check_settings(os.environ)
    python = bootstrap.ensure([bootstrap.SERVE])
    if Path(sys.prefix).resolve() != bootstrap.VENV.resolve() or os.environ != ours(os.environ):
        os.execve(python, [str(python), str(SCRIPT), *argv], ours(os.environ))  # noqa: S606 - no shell is wanted
    from deploy.serve import serve

    return serve(asked)
