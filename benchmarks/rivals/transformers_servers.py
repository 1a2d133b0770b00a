"""transformers' own server, and the short Flask program that people write around `generate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rivals.openai_client import CompletionsClient
from benchmarks.rivals.process import Process
from benchmarks.rivals.system import LOCALHOST, THREADS, HttpSession, is_answering
from benchmarks.serving import NEW_TOKENS, Workload
from deploy import bootstrap
from tests.free_port import free_port

REQUIREMENTS = Path(__file__).with_name("requirements-transformers.txt")
NO_TOKEN = -1
GENERATION = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "eos_token_id": NO_TOKEN, "pad_token_id": 0}


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
        """Install it; an existing installation is kept.

        Raises:
            deploy.bootstrap.SetupError: pip failed; the console has its output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        bootstrap.ensure([REQUIREMENTS], self._venv)

    @contextmanager
    def running(self, workload: Workload) -> Iterator[HttpSession]:  # noqa: ARG002 - any number of clients works
        """Start it, and stop it at the end."""
        fields = {"model": str(self.model), "generation_config": json.dumps(GENERATION)}
        with _running(self._command(), self.folder / "server.log") as (process, port):
            yield HttpSession(process, lambda: CompletionsClient(port, fields))

    @property
    def _venv(self) -> Path:
        return self.folder / "venv"

    def _command(self) -> list[str | Path]:
        program = bootstrap.python_of(self._venv).with_name("transformers")
        options = ["--continuous-batching", "--dtype", "float32", "--device", "cpu", "--host", LOCALHOST]
        return [program, "serve", self.model, *options, "--port"]


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

    @contextmanager
    def running(self, workload: Workload) -> Iterator[HttpSession]:  # noqa: ARG002 - any number of clients works
        """Start it, and stop it at the end."""
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "benchmarks.rivals.naive_flask",
            "--model",
            self.model,
            "--port",
        ]
        with _running(command, self.log) as (process, port):
            yield HttpSession(process, lambda: CompletionsClient(port, {}))


@contextmanager
def _running(command: Sequence[str | Path], log: Path) -> Iterator[tuple[Process, int]]:
    """Start a server on a free port, the command's last argument, and stop it at the end."""
    port = free_port()
    environment = {"OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
    with Process([*command, str(port)], log, environment) as process:
        process.wait_until(lambda: is_answering(port, "/health"))
        yield process, port
