"""The command as a program: from a checkout, without the packages on its path that only tests have."""

from __future__ import annotations

import os
import subprocess
import sys

from common.settings import ROOT

LOADED = """
import sys
from slm.__main__ import main
status = main(["--help"])
print(status, sorted({"torch", "transformers", "celery", "flask", "redis"} & sys.modules.keys()), file=sys.stderr)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60
    )


def test_it_runs_from_a_checkout() -> None:
    done = run("-m", "slm", "chat", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Talk with a model" in done.stdout


def test_it_only_loads_what_it_needs() -> None:
    assert run("-c", LOADED).stderr == "0 []\n"
