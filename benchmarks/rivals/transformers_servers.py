"""transformers' own server, and the short Flask program that people write around `generate`."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.rivals.environment import Environment
from benchmarks.rivals.openai_client import CompletionsClient
from benchmarks.rivals.system import LOCALHOST, THREADS, HttpSession, serving
from benchmarks.serving import NEW_TOKENS, Workload

REQUIREMENTS = Path(__file__).with_name("requirements-transformers.txt")
NO_TOKEN = -1
GENERATION = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "eos_token_id": NO_TOKEN, "pad_token_id": 0}
ENV = {"OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class TransformersServe:
    """`transformers serve` with continuous batching, in single floats.

    Args:
        folder: its environment and log.
        model: the checkpoint's folder.
    """

    folder: Path
    model: Path
    title = "transformers serve fp32"

    def make(self, model: Path) -> None:  # noqa: ARG002 - it reads the checkpoint itself
        """Install it; an existing installation is kept."""
        self._environment.make()

    def running(self, workload: Workload) -> AbstractContextManager[HttpSession]:  # noqa: ARG002 - serves any number
        """Start it, and stop it at the end."""
        fields = {"model": str(self.model), "generation_config": json.dumps(GENERATION)}
        options = ["--continuous-batching", "--dtype", "float32", "--device", "cpu", "--host", LOCALHOST, "--port"]
        command: list[str | Path] = [self._environment.program("transformers"), "serve", self.model, *options]
        return serving(command, self.folder / "server.log", partial(CompletionsClient, fields=fields), env=ENV)

    @property
    def _environment(self) -> Environment:
        return Environment(self.folder / "venv", REQUIREMENTS)


@dataclass(frozen=True)
class NaiveServer:
    """One model, one lock, `generate` in the request's thread: `naive_flask.py`, in single floats.

    Args:
        log: the file for its output.
        model: the checkpoint's folder.
    """

    log: Path
    model: Path
    title = "Flask and generate, fp32"

    def make(self, model: Path) -> None:
        """Do nothing: it runs in the environment of this program."""

    def running(self, workload: Workload) -> AbstractContextManager[HttpSession]:  # noqa: ARG002 - serves any number
        """Start it, and stop it at the end."""
        options = ["-m", "benchmarks.rivals.naive_flask", "--model", str(self.model), "--port"]
        return serving([sys.executable, *options], self.log, partial(CompletionsClient, fields={}), env=ENV)
