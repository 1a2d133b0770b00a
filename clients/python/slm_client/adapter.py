"""Adapters and aliases."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Adapter:
    """A version of an adapter; one without a number stands for the newest, and has all `versions`, oldest first.

    `rank` is the highest of its matrices. `aliases` are those that point to this version.
    """

    name: str
    version: int
    id: str
    base: str
    rank: int
    bytes: int
    aliases: Sequence[str] = ()
    versions: Sequence[Adapter] = ()

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Adapter:
        """Read the server's JSON; ignores fields of newer servers. Raises `KeyError` if a field is missing."""
        plain = {name: body[name] for name in cls.__dataclass_fields__ if name != "versions"}
        return cls(**plain, versions=[cls.from_body(one) for one in body.get("versions", ())])

    @classmethod
    def from_listing(cls, body: Mapping[str, Any]) -> list[Adapter]:
        """Read the JSON of a list."""
        return [cls.from_body(one) for one in body["adapters"]]


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias: the version or base model that it points to, and what it pointed to before, latest first."""

    name: str
    model: str
    history: Sequence[str]

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Alias:
        """Read the server's JSON. Raises as `Adapter.from_body`."""
        return cls(body["name"], body["model"], body["history"])

    @classmethod
    def from_listing(cls, body: Mapping[str, Any]) -> list[Alias]:
        """Read the JSON of a list."""
        return [cls.from_body(one) for one in body["aliases"]]


def archive_of(path: str | Path) -> bytes:
    """Return an archive with the files of a PEFT folder, or the archive at this path. Raises `OSError`."""
    source = Path(path)
    if not source.is_dir():
        return source.read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for file in sorted(source.iterdir()):
            if file.is_file():
                archive.add(file, file.name)
    return packed.getvalue()
