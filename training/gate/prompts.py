"""The user's own fixed prompts, which a new version must still answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FixedPrompt:
    """A prompt with what its answer must have.

    Attributes:
        expected: words that must all occur in the answer, in any case; empty: no such demand.
        json_schema: the schema that the answer must satisfy as a JSON text; None: no such demand.
    """

    prompt: str
    expected: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
