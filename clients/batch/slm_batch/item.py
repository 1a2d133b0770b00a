"""Reads the prompts of a batch from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slm_client import GenerateOptions

OPTIONS = GenerateOptions.__annotations__.keys()


class BadPrompts(Exception):
    """The file of prompts is not valid; the text names the line."""


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt. `id` is unique in the batch."""

    id: str
    prompt: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A hash that identifies the item: with another prompt or other options, the same id is another item."""
        wanted = json.dumps([self.id, self.prompt, self.options], sort_keys=True)
        return hashlib.sha256(wanted.encode()).hexdigest()[:32]


def read_items(path: Path, defaults: dict[str, Any]) -> list[Item]:
    """Return the items of a file: JSON Lines if its name ends in .jsonl, else one prompt per line.

    Args:
        path: a JSON line is a prompt, or an object with `prompt`, options and an `id` (default: the line's number).
        defaults: options of every item that does not set them itself.

    Raises:
        BadPrompts: a line is not valid, or the file has no prompts.
        OSError: the file cannot be read.
    """
    parse = _parse_json if path.suffix == ".jsonl" else _parse_text
    try:
        items = [parse(number, line, defaults) for number, line in _lines(path)]
    except UnicodeDecodeError as err:
        raise BadPrompts(f"{path} is not UTF-8: {err.reason} at byte {err.start}") from err
    if not items:
        raise BadPrompts(f"{path} has no prompts")
    _refuse_doubles(items)
    return items


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the non-blank lines with their numbers, which start at 1."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.strip()


def _parse_text(number: int, line: str, defaults: dict[str, Any]) -> Item:
    return Item(str(number), line, defaults)


def _parse_json(number: int, line: str, defaults: dict[str, Any]) -> Item:
    try:
        value = json.loads(line)
    except ValueError as err:
        raise BadPrompts(f"line {number} is not JSON: {err}") from err
    if isinstance(value, str):
        return Item(str(number), value, defaults)
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
        raise BadPrompts(f'line {number} must be a string or an object with a "prompt"')
    options = {name: option for name, option in value.items() if name not in ("id", "prompt")}
    check_options(options, f"line {number}")
    return Item(str(value.get("id", number)), value["prompt"], defaults | options)


def check_options(options: dict[str, Any], where: str) -> None:
    """Raise `BadPrompts` for an unknown option. The server checks the values."""
    for name in options.keys() - OPTIONS:
        raise BadPrompts(f"{where}: {name!r} is not an option; known: {', '.join(sorted(OPTIONS))}")


def _refuse_doubles(items: list[Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise BadPrompts(f"two prompts have the id {item.id!r}")
        seen.add(item.id)
