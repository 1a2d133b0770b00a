"""The facts about the base model against which adapters are checked; they are known before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class BaseFacts:
    """A base model: its name for requests, the hash of its files, and the shapes of its weights by their names.

    `source` is a local folder, or a hub id in the local cache.
    """

    name: str
    id: str
    shapes: Shapes
    source: str = ""
