"""What the registry stores and returns: versions of adapters, aliases, and models that a request can name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from common.redis.scripts import Argument
from common.wire import known_fields


class ModelKind(StrEnum):
    """What a name stands for."""

    BASE = "base"
    ADAPTER = "adapter"
    ALIAS = "alias"


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """The content of an adapter version.

    Attributes:
        id: SHA-256 of its files (`common.content`), in hex.
        base: name of the base model that it was checked against.
        base_id: hash of that model's files.
        rank: the highest rank of its matrices.
        modules: the kinds of the modules that it adapts, such as `q_proj`, sorted.
        bytes: size of its files.
        created_ms: when this content was first registered, on Redis's clock (ms since the epoch).
        summary: the summary that its training wrote, if there is one.
    """

    id: str
    base: str
    base_id: str = ""
    rank: int = 0
    modules: tuple[str, ...] = ()
    bytes: int = 0
    created_ms: int = 0
    summary: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        return asdict(self) | {"modules": list(self.modules)}

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> VersionFacts:
        """Parse the JSON form."""
        return cls(**(known_fields(cls, wire) | {"modules": tuple(wire["modules"])}))

    def to_fields(self) -> list[Argument]:
        """Return field, value, ... of the hash in Redis, without the id and the time."""
        fields: dict[str, Argument] = {
            "base": self.base,
            "base_id": self.base_id,
            "rank": self.rank,
            "modules": json.dumps(self.modules),
            "bytes": self.bytes,
            "summary": json.dumps(dict(self.summary)),
        }
        return [part for pair in fields.items() for part in pair]

    @classmethod
    def from_hash(cls, adapter_id: str, fields: Mapping[str, str]) -> VersionFacts:
        """Parse the hash at `keys.adapter_version(id)`."""
        return cls(
            id=adapter_id,
            base=fields["base"],
            base_id=fields["base_id"],
            rank=int(fields["rank"]),
            modules=tuple(json.loads(fields["modules"])),
            bytes=int(fields["bytes"]),
            created_ms=int(fields["created_ms"]),
            summary=json.loads(fields["summary"]),
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of an adapter. `is_new`: the registration that returned it has created it."""

    name: str
    number: int
    id: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Version:
    """A numbered version of an adapter."""

    name: str
    number: int
    facts: VersionFacts


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias. `target` is `name@number` or a base model; `history` has its earlier targets, latest first.

    `set_by` is the owner who set the target; empty if the server did, which it only does with the alias `default`.
    """

    name: str
    target: str
    history: tuple[str, ...] = ()
    set_by: str = ""

    @classmethod
    def from_json(cls, name: str, text: str) -> Alias:
        """Parse the JSON at `keys.ALIASES`; the script leaves an empty history out."""
        wire = json.loads(text)
        return cls(name, wire["target"], tuple(wire.get("history", ())), wire.get("set_by", ""))


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name stands for now: `model` is `name@number` or the base's name; `adapter_id` is '' for the bare base."""

    base: str
    model: str
    adapter_id: str


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A name that a request can use, and what it stands for now."""

    name: str
    kind: ModelKind
    resolved: Resolved
