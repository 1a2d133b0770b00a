"""The vectors of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def vectors(body: Mapping[str, Any]) -> list[list[float]]:
    """Read the JSON of `POST /v1/embeddings`: a vector for each text, in their order. Raises `KeyError`."""
    return [[float(number) for number in one["embedding"]] for one in body["data"]]
