"""llama.cpp's own HTTP server: its environment, its models and its clients."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rivals.system import CONTEXT, DATA, LOCALHOST, THREADS, HttpSession, post, serving
from benchmarks.serving import NEW_TOKENS, Workload
from deploy import bootstrap

REQUIREMENTS = Path(__file__).with_name("requirements-llama-cpp.txt")
PACKAGE = "llama-cpp-python"
SOURCE = "vendor/llama.cpp"  # inside the package's source archive
CONVERTER = ("convert_hf_to_gguf.py", "conversion", "gguf-py")
BUILD_OPTIONS = {
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_TOOLS_INSTALL": "ON",
    "LLAVA_BUILD": "OFF",  # already included in the tools
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",  # it would be downloaded
    "CMAKE_INSTALL_RPATH": "$ORIGIN/../lib",
}
MIN_SLOTS = 8
FULL_FORMAT = "F16"
REQUEST: dict[str, object] = {
    "n_predict": NEW_TOKENS,
    "temperature": 0,
    "ignore_eos": True,
    "cache_prompt": False,
    "stream": True,
}


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp's environment and models in one folder."""

    folder: Path

    def make(self, model: Path, number_format: str) -> None:
        """Install it, which compiles for several minutes, and convert the model; existing files are kept.

        Raises:
            deploy.bootstrap.SetupError, subprocess.CalledProcessError: a step failed; the console has its output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        os.environ["CMAKE_ARGS"] = " ".join(f"-D{name}={value}" for name, value in BUILD_OPTIONS.items())
        bootstrap.ensure([REQUIREMENTS], self._venv)
        if not self.model(FULL_FORMAT).exists():
            self._convert(model)
        target = self.model(number_format)
        if not target.exists():
            _replacing(target, self.program("llama-quantize"), self.model(FULL_FORMAT), last=[number_format])

    def model(self, number_format: str) -> Path:
        """Return the path of the model in a number format."""
        return self.folder / f"model-{number_format}.gguf"

    def program(self, name: str) -> Path:
        """Return the path of one of its programs."""
        return next(self._venv.glob(f"lib/python*/site-packages/bin/{name}"))

    @property
    def _venv(self) -> Path:
        return self.folder / "venv"

    def _convert(self, model: Path) -> None:
        converter = self._source() / CONVERTER[0]
        python = bootstrap.python_of(self._venv)
        _replacing(self.model(FULL_FORMAT), python, converter, model, "--outtype", "f16", "--outfile")

    def _source(self) -> Path:
        """Download and unpack the converter, which is only in the package's source archive."""
        pin = next(line for line in REQUIREMENTS.read_text("utf-8").splitlines() if line.startswith(f"{PACKAGE}=="))
        download = ["download", "--no-deps", "--no-binary", PACKAGE, "--dest", str(self.folder), pin]
        subprocess.run([bootstrap.python_of(self._venv), "-m", "pip", *download], check=True)
        archive = next(self.folder.glob("*.tar.gz"))
        source = self.folder / archive.name.removesuffix(".tar.gz") / SOURCE
        wanted = tuple(str(source.relative_to(self.folder) / name) for name in CONVERTER)
        with tarfile.open(archive) as packed:
            members = [member for member in packed.getmembers() if member.name.startswith(wanted)]
            packed.extractall(self.folder, members, filter="data")
        return source


def _replacing(target: Path, *command: str | Path, last: Sequence[str] = ()) -> None:
    """Run a command that writes a file; a failed command never leaves a partial file at `target`."""
    unfinished = target.with_suffix(".unfinished")
    subprocess.run([*command, unfinished, *last], check=True)
    unfinished.rename(target)


@dataclass(frozen=True)
class LlamaServer:
    """llama.cpp's server with one number format: continuous batching, no prompt cache."""

    installed: LlamaCpp
    number_format: str

    @property
    def title(self) -> str:
        """Its name in the table."""
        return f"llama.cpp {self.number_format}"

    def make(self, model: Path) -> None:
        """Install llama.cpp and convert the model; existing files are kept."""
        self.installed.make(model, self.number_format)

    def running(self, workload: Workload) -> AbstractContextManager[HttpSession]:
        """Start it with a slot for every client, and stop it at the end."""
        return serving(self._command(workload), self.installed.folder / "server.log", LlamaClient)

    def _command(self, workload: Workload) -> list[str | Path]:
        slots = max(MIN_SLOTS, workload.clients)
        options = {
            "--host": LOCALHOST,
            "--threads": THREADS,
            "--threads-batch": THREADS,
            "--parallel": slots,
            "--ctx-size": MIN_SLOTS * CONTEXT,  # for all slots together
            "--cache-ram": 0,
        }
        words = [str(word) for option in options.items() for word in option]
        model = self.installed.model(self.number_format)
        program = self.installed.program("llama-server")
        return [program, "--model", model, *words, "--cont-batching", "--no-ui", "--port"]


class LlamaClient:
    """A client of llama.cpp's server, which closes the connection after each stream."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tokens = 0

    def stream(self, prompt: str) -> list[float]:
        """Send one streamed request; return when each piece of text arrived, in seconds after it was sent."""
        times = []
        with post(self._port, "/completion", {"prompt": prompt, **REQUEST}) as (sent, lines):
            for line in lines:
                if b'"stop":true' in line:
                    self._tokens += json.loads(line.removeprefix(DATA))["tokens_predicted"]
                elif line.startswith(DATA) and b'"content":""' not in line:
                    times.append(time.perf_counter() - sent)
        return times

    def count_tokens(self) -> int:
        """Return the number of generated tokens according to the server."""
        return self._tokens
