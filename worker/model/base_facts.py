"""The facts about the base model against which adapters are checked; they are known before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class BaseFacts:
    """A base model: its name for requests, the hash of its files, and the shapes of its weights by their names."""

    name: str
    id: str
    shapes: Shapes
