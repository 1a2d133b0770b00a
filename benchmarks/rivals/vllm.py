"""vLLM's own server on a CPU: its environment and its start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rivals.openai_client import CompletionsClient
from benchmarks.rivals.process import Process
from benchmarks.rivals.system import CONTEXT, LOCALHOST, THREADS, HttpSession, is_answering
from benchmarks.serving import Workload
from deploy import bootstrap
from tests.free_port import free_port

REQUIREMENTS = Path(__file__).with_name("requirements-vllm.txt")
NAME = "benchmark"
FIELDS = {"model": NAME, "ignore_eos": True, "stream_options": {"include_usage": True}}
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
KV_GIB = "2"  # more than 32 responses need; the default takes half of the machine
MIN_SEQS = 8


@dataclass(frozen=True)
class VllmServer:
    """vLLM in one number format, without its cache of earlier prompts.

    Args:
        folder: its environment and log.
        model: the checkpoint's folder.
        number_format: a key of `DTYPES`.
    """

    folder: Path
    model: Path
    number_format: str

    @property
    def title(self) -> str:
        """Its name in the table."""
        return f"vLLM {self.number_format}"

    def make(self, model: Path) -> None:  # noqa: ARG002 - it reads the checkpoint itself
        """Install it; an existing installation is kept.

        Raises:
            deploy.bootstrap.SetupError: pip failed; the console has its output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        bootstrap.ensure([REQUIREMENTS], self._venv)

    @contextmanager
    def running(self, workload: Workload) -> Iterator[HttpSession]:
        """Start it with a place in the batch for every client, and stop it at the end."""
        port = free_port()
        environment = {"VLLM_CPU_KVCACHE_SPACE": KV_GIB, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
        with Process(self._command(workload, port), self.folder / "server.log", environment) as process:
            process.wait_until(lambda: is_answering(port, "/health"))
            yield HttpSession(process, lambda: CompletionsClient(port, FIELDS))

    @property
    def _venv(self) -> Path:
        return self.folder / "venv"

    def _command(self, workload: Workload, port: int) -> list[str | Path]:
        options = {
            "--host": LOCALHOST,
            "--port": port,
            "--dtype": DTYPES[self.number_format],
            "--max-model-len": CONTEXT,
            "--max-num-seqs": max(MIN_SEQS, workload.clients),
            "--served-model-name": NAME,
        }
        words = [str(word) for option in options.items() for word in option]
        program = bootstrap.python_of(self._venv).with_name("vllm")
        return [program, "serve", self.model, *words, "--no-enable-prefix-caching"]
