"""OpenVINO GenAI: its environment, its model, and its engine in a separate process."""

from __future__ import annotations

import json
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.rivals.process import Process, ProcessFailed
from benchmarks.rivals.system import THREADS
from benchmarks.serving import Measured, Workload
from deploy import bootstrap

REQUIREMENTS = Path(__file__).with_name("requirements-openvino.txt")


class EngineSession:
    """A running engine at the other end of a socket."""

    def __init__(self, process: Process, link: socket.socket) -> None:
        self.process = process
        self._lines = link.makefile("rw")

    def read(self) -> str:
        """Read one line. Raises `ProcessFailed` if the engine has ended."""
        line = self._lines.readline()
        if not line:
            raise ProcessFailed("OpenVINO's engine ended; its log says why")
        return line

    def run(self, workload: Workload, number: int) -> Measured:
        """Run a workload once."""
        print(json.dumps({"workload": asdict(workload), "number": number}), file=self._lines, flush=True)
        return Measured(**json.loads(self.read()))


@dataclass(frozen=True)
class OpenVino:
    """The engine with 8-bit weights and continuous batching; it has no HTTP server."""

    folder: Path
    title = "OpenVINO GenAI int8 (engine only)"

    def make(self, model: Path) -> None:
        """Install it and convert the model; existing files are kept.

        Raises:
            deploy.bootstrap.SetupError, subprocess.CalledProcessError: a step failed; the console has its output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        python = bootstrap.ensure([REQUIREMENTS], self._venv)
        if not self._model.is_dir():
            self._convert(python, model)

    @contextmanager
    def running(self, workload: Workload) -> Iterator[EngineSession]:  # noqa: ARG002 - any number of clients works
        """Start the engine, and stop it at the end."""
        ours, theirs = socket.socketpair()
        with ours, Process(self._command(theirs), self.folder / "engine.log", inherited=theirs) as process:
            theirs.close()
            process.wait_until(lambda: bool(select.select([ours], [], [], 0)[0]))
            session = EngineSession(process, ours)
            session.read()
            yield session

    @property
    def _venv(self) -> Path:
        return self.folder / "venv"

    @property
    def _model(self) -> Path:
        return self.folder / "model-int8"

    def _convert(self, python: Path, model: Path) -> None:
        # The exporter installs torchvision; its published build needs the CUDA torch and fails with a CPU torch.
        subprocess.run([python, "-m", "pip", "uninstall", "--yes", "--quiet", "torchvision"], check=True)
        unfinished = self._model.with_suffix(".unfinished")
        options = ["--task", "text-generation-with-past", "--weight-format", "int8"]
        program = python.with_name("optimum-cli")
        subprocess.run([program, "export", "openvino", "--model", model, *options, unfinished], check=True)
        unfinished.rename(self._model)

    def _command(self, link: socket.socket) -> list[str | Path]:
        options = {"--model": self._model, "--threads": THREADS, "--socket": link.fileno()}
        words = [str(word) for option in options.items() for word in option]
        return [bootstrap.python_of(self._venv), "-m", "benchmarks.rivals.openvino_engine", *words]
