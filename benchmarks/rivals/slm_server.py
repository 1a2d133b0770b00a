"""This project's server, started as a user starts it."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rivals.system import CONTEXT, LOCALHOST, THREADS, HttpSession, serving
from benchmarks.serving import ServerClient, Workload
from common.settings import ROOT

MAX_NUM_SEQS = 32


@dataclass(frozen=True)
class SlmServer:
    """The whole stack: Redis, one worker, the API.

    Args:
        folder: for its data and log; kept, so that the next start finds the compiled kernels.
        models: the folder with the default model.
        model: the name in the requests; empty: none, so that the default adapter answers.
    """

    folder: Path
    models: Path
    model: str = ""
    title = "this server"

    def make(self, model: Path) -> None:
        """Do nothing: it runs in the environment of this program."""

    def running(self, workload: Workload) -> AbstractContextManager[HttpSession]:  # noqa: ARG002 - serves any number
        """Start it for 32 sequences at once, and stop it at the end."""
        self._make_folder()
        command: list[str | Path] = [sys.executable, ROOT / "start_slm_api.py", "--host", LOCALHOST, "--port"]
        return serving(command, self.folder / "server.log", self._connect, env=self._environment(), ready="/readyz")

    def _make_folder(self) -> None:
        """Create a separate data folder, so that the jobs do not mix with those of a real server; shares the models."""
        self.folder.mkdir(parents=True, exist_ok=True)
        link = self.folder / "models"
        if not link.is_symlink():
            link.symlink_to(self.models, target_is_directory=True)

    def _environment(self) -> dict[str, str]:
        return {
            "SLM_DATA_DIR": str(self.folder),
            "SLM_MAX_NUM_SEQS": str(MAX_NUM_SEQS),
            "SLM_THREADS": str(THREADS),
            "SLM_CONTEXT": str(CONTEXT),
        }

    def _connect(self, port: int) -> ServerClient:
        return ServerClient(f"http://{LOCALHOST}:{port}", model=self.model)
