"""Starts the command: `slm`, or `python -m slm` in the project's root.

Standard library only, until the environment exists.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

from deploy import bootstrap
from deploy.start_command import is_checkout

_NEEDED = ("httpx", "httpx_sse", "pydantic_settings", "redis", "rich", "typer")
_CLIENT = bootstrap.ROOT / "clients" / "python"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, or the program's arguments. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        _ensure_packages(arguments)
    except bootstrap.SetupError as err:
        print(f"Cannot set up: {err}", file=sys.stderr)
        return 1
    from slm.app import run

    return run(arguments)


def _ensure_packages(arguments: Sequence[str]) -> None:
    """Start again in the project's environment, made if necessary, unless this Python has the packages."""
    if is_checkout() and any(importlib.util.find_spec(name) is None for name in _NEEDED):
        python = bootstrap.ensure([bootstrap.SERVE])
        os.execv(python, [str(python), "-m", "slm", *arguments])  # noqa: S606 - no shell is wanted
    if importlib.util.find_spec("slm_client") is None:  # only an installed package has it on its path
        sys.path.append(str(_CLIENT))


if __name__ == "__main__":
    raise SystemExit(main())
