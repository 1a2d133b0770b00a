"""vLLM's own server on a CPU: its environment and its start."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.rivals.environment import Environment
from benchmarks.rivals.openai_client import CompletionsClient
from benchmarks.rivals.system import CONTEXT, LOCALHOST, THREADS, HttpSession, serving
from benchmarks.serving import Workload

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
        """Install it; an existing installation is kept."""
        self._environment.make()

    def running(self, workload: Workload) -> AbstractContextManager[HttpSession]:
        """Start it with a place in the batch for every client, and stop it at the end."""
        env = {"VLLM_CPU_KVCACHE_SPACE": KV_GIB, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
        connect = partial(CompletionsClient, fields=FIELDS)
        return serving(self._command(workload), self.folder / "server.log", connect, env=env)

    @property
    def _environment(self) -> Environment:
        return Environment(self.folder / "venv", REQUIREMENTS)

    def _command(self, workload: Workload) -> list[str | Path]:
        options = {
            "--host": LOCALHOST,
            "--dtype": DTYPES[self.number_format],
            "--max-model-len": CONTEXT,
            "--max-num-seqs": max(MIN_SEQS, workload.clients),
            "--served-model-name": NAME,
        }
        words = [str(word) for option in options.items() for word in option]
        program = self._environment.program("vllm")
        return [program, "serve", self.model, *words, "--no-enable-prefix-caching", "--port"]
