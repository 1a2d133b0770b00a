"""The interpreter of the foreign environment, as a child of the tests."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy import bootstrap

HERE = Path(__file__).parent
AGENTS = HERE / "agents"
FOLDER = bootstrap.VENV / "foreign"
AGENTS_FOLDER = bootstrap.VENV / "foreign-agents"
INSTALL_S = 900  # of a test: the first one downloads 100 MB
SILENCE = {  # no telemetry, and nothing is fetched
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "PYTHONWARNINGS": "ignore",
}


class ForeignPython:
    """Runs programs, which get values from the tests through their environment."""

    def __init__(self, python: Path, log: Path, variables: dict[str, str]) -> None:
        self._log = log
        with log.open("wb") as complaints:
            self._process = subprocess.Popen(
                [python, HERE / "interpreter.py"],
                env=os.environ | SILENCE | variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )

    def run(self, program: str) -> list[Any]:
        """Return the values passed to `out`; fails if the program failed or tried to reach another machine."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(program), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, self._log.read_text("utf-8")
        reply = json.loads(answer)
        assert reply["failure"] is None, reply["failure"]
        assert reply["refused"] == []
        return list(reply["found"])

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def foreign_python(requirements: Path, folder: Path, log: Path, **variables: str) -> Iterator[ForeignPython]:
    """Start that of the environment in `folder`, after installing missing packages.

    Args:
        requirements: the folder of `requirements.txt` and `constraints.txt`.
        folder: the environment.
        log: the file for what the packages print.
        variables: environment variables.
    """
    python = ForeignPython(bootstrap.ensure([requirements / "requirements.txt"], folder), log, variables)
    try:
        yield python
    finally:
        python.stop()
