"""Writes requirements/hashes/: what each image installs, with the SHA-256 of every file that the index may serve.

    python -m deploy.lock        # needs uv (python -m pip install uv); after every change in requirements/

The versions are those of requirements/constraints.txt. The files are for Linux on amd64 and arm64.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

from deploy.bootstrap import ROOT

REQUIREMENTS = ROOT / "requirements"
HASHES = REQUIREMENTS / "hashes"
IMAGES = {
    "api": ("api.txt",),
    "flower": ("flower.txt",),
    "worker": ("worker.txt",),
    "trainer": ("worker.txt", "train.txt"),
}
# torch comes from an index of its own in the CPU images; with the CUDA libraries it is a file of its own.
CUDA = re.compile(r"^(torch|triton|nvidia-|cuda-)")
_COMPILE = ("uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate", "--no-header")
_PYTHON = ("--python-version", "3.11")
_ELSEWHERE = re.compile(r"sys_platform == '(win32|emscripten)'")


def main() -> None:
    """Write all files."""
    HASHES.mkdir(exist_ok=True)
    for image, files in IMAGES.items():
        _write(image, [entry for entry in _compiled(*files) if not CUDA.match(entry)])
    _write("cuda", [entry for entry in _compiled("worker.txt") if CUDA.match(entry)])


def _compiled(*files: str) -> Iterator[str]:
    """Yield the entries for the requirement files, each with its hashes, without those for other systems."""
    command = [*_COMPILE, *_PYTHON, *(str(REQUIREMENTS / file) for file in files)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    entries = re.split(r"\n(?=\S)", text.strip())
    return (entry for entry in entries if not _ELSEWHERE.search(entry.partition("\n")[0]))


def _write(name: str, entries: list[str]) -> None:
    head = "# Made by `python -m deploy.lock`; do not edit.\n"
    (HASHES / f"{name}.txt").write_text(head + "\n".join(entries) + "\n", "utf-8")


if __name__ == "__main__":
    main()
