"""This project's server, started as a user starts it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rivals.process import Process
from benchmarks.rivals.system import CONTEXT, LOCALHOST, THREADS, HttpSession, is_answering
from benchmarks.serving import ServerClient, Workload
from common.settings import ROOT
from tests.free_port import free_port

MAX_NUM_SEQS = 32


@dataclass(frozen=True)
class SlmServer:
    """The whole stack: Redis, one worker, the API.

    Args:
        folder: for its data and log; kept, so that the next start finds the compiled kernels.
        models: the folder with the default model.
    """

    folder: Path
    models: Path
    title = "this server"

    def make(self, model: Path) -> None:
        """Do nothing: it runs in the environment of this program."""

    @contextmanager
    def running(self, workload: Workload) -> Iterator[HttpSession]:  # noqa: ARG002 - one set-up serves every workload
        """Start it for 32 sequences at once, and stop it at the end."""
        self._make_folder()
        port = free_port()
        with Process(self._command(port), self.folder / "server.log", self._environment()) as process:
            process.wait_until(lambda: is_answering(port, "/readyz"))
            yield HttpSession(process, lambda: ServerClient(f"http://{LOCALHOST}:{port}"))

    def _make_folder(self) -> None:
        """Create a separate data folder, so that the jobs do not mix with those of a real server; shares the models."""
        self.folder.mkdir(parents=True, exist_ok=True)
        link = self.folder / "models"
        if not link.is_symlink():
            link.symlink_to(self.models, target_is_directory=True)

    def _command(self, port: int) -> list[str | Path]:
        return [sys.executable, ROOT / "start_slm_api.py", "--host", LOCALHOST, "--port", str(port)]

    def _environment(self) -> dict[str, str]:
        return {
            "SLM_DATA_DIR": str(self.folder),
            "SLM_MAX_NUM_SEQS": str(MAX_NUM_SEQS),
            "SLM_THREADS": str(THREADS),
            "SLM_CONTEXT": str(CONTEXT),
        }
