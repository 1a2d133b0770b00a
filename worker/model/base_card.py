"""Reads what a person wants to know of a base model before they use it: its licence and its size."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

MAX_TEXT = 100  # characters of a licence's name
MAX_READ = 65_536  # bytes of a text file
MAX_HEADER = 100_000_000  # bytes; safetensors allows no more


@dataclass(frozen=True, slots=True)
class BaseCard:
    """What the files of a base model say about it; None if they say nothing.

    Attributes:
        license: its identifier, such as "apache-2.0", or else the title of its text.
        parameters: number of weights; a weight that modules share counts once.
        bytes: of the weights' files.
    """

    license: str | None = None
    parameters: int | None = None
    bytes: int | None = None


def read_base_card(folder: Path) -> BaseCard:
    """Read the card from the model's folder. Files that cannot be understood say nothing."""
    weights = sorted(folder.glob("*.safetensors"))
    try:
        parameters = sum(prod(shape) for file in weights for shape in _shapes(file))
    except (OSError, ValueError):
        parameters = 0
    return BaseCard(_license(folder), parameters or None, sum(file.stat().st_size for file in weights) or None)


def _shapes(file: Path) -> Iterator[list[int]]:
    """Yield the shapes of the weights in a safetensors file. It begins with the length of its header, 8 bytes."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(min(MAX_HEADER, int.from_bytes(opened.read(8), "little"))))
    yield from (one["shape"] for name, one in header.items() if name != "__metadata__")


def _license(folder: Path) -> str | None:
    """Return what the README's metadata say, or the title of a file with the licence."""
    metadata = re.match(r"---\n(.*?)\n---", _text(folder / "README.md"), re.DOTALL)
    named = metadata and re.search(r"^license:[ \t]*[\"']?([^\"'\n]+)", metadata[1], re.MULTILINE)
    if named and named[1].strip() != "other":
        return named[1].strip()[:MAX_TEXT]
    return _title(_text(folder / "LICENSE"))


def _title(text: str) -> str | None:
    """Return the first line, and the second one if that has the version."""
    lines = [line.strip() for line in text.splitlines() if line.strip()][:2]
    has_version = len(lines) == 2 and lines[1].lower().startswith("version")
    return " ".join(lines if has_version else lines[:1])[:MAX_TEXT] or None


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_READ).decode("utf-8", "replace")
    except OSError:
        return ""
