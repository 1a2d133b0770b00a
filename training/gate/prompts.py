"""The user's own fixed prompts, which a new version must still answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.errors import RecipeError


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

    def __post_init__(self) -> None:
        """Raise `RecipeError` if every answer, or none, would be good whatever it is."""
        if not self.expected and self.json_schema is None:
            raise RecipeError("prompts", f"the prompt {self.prompt[:60]!r} needs expected words or a json_schema")
        if self.json_schema is not None:
            from training.gate.answer_schema import check_schema  # not every process has the package

            check_schema(self.prompt, self.json_schema)

    def is_good(self, answer: str) -> bool:
        """Return whether the answer has all expected words and satisfies the schema."""
        if not all(word.casefold() in answer.casefold() for word in self.expected):
            return False
        if self.json_schema is None:
            return True
        from training.gate.answer_schema import satisfies

        return satisfies(self.json_schema, answer)
