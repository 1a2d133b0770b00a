"""What a request can name as its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """A base model, an adapter or an alias. `model` is what the name stands for now: "support@3", or a base model."""

    name: str
    kind: str
    model: str
    base: str

    @classmethod
    def from_listing(cls, body: Mapping[str, Any]) -> list[Model]:
        """Read the JSON of `GET /slm/models`. Raises `KeyError` if a field is missing."""
        return [cls(one["name"], one["kind"], one["model"], one["base"]) for one in body["models"]]
