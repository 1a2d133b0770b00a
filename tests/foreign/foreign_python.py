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
REQUIREMENTS = HERE / "requirements.txt"
CONSTRAINTS = HERE / "constraints.txt"
FOLDER = bootstrap.VENV / "foreign"
INSTALL_S = 900  # of a test: the first one downloads 100 MB
SILENCE = {  # no telemetry, and nothing is fetched
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
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
def foreign_python(log: Path, **variables: str) -> Iterator[ForeignPython]:
    """Start it with these environment variables, after installing missing packages."""
    python = ForeignPython(bootstrap.ensure([REQUIREMENTS], FOLDER), log, variables)
    try:
        yield python
    finally:
        python.stop()
