"""Checks that the Python running the scripts has the packages for training. Imports only the standard library."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "safetensors", "matplotlib", "pydantic_settings")


def ensure_packages(argv: Sequence[str], root: Path = ROOT) -> None:
    """Return if the packages are installed; else continue in the project's `.venv`, or exit with a line of advice.

    Args:
        argv: the command (script and arguments) to rerun in `.venv`.
        root: the project's folder.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if not missing:
        return
    venv = root / ".venv"
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.exists() and Path(sys.prefix).resolve() != venv.resolve():
        os.execv(python, [str(python), *argv])  # noqa: S606 - the same script, in the project's own Python
    raise SystemExit(
        f"This Python lacks {', '.join(missing)}. Run `python start_slm_api.py` once in {root}, which sets up .venv, "
        f"or `{sys.executable} -m pip install -r {root / 'SLMInit' / 'requirements.txt'}`."
    )
