"""The errors of training. The text of each says what to do."""

from __future__ import annotations

from models.errors import FineTuningError


class RecipeError(FineTuningError):
    """A training parameter is unknown or has an invalid value.

    Attributes:
        field: the parameter's name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class Stopped(Exception):
    """The caller ended an evaluation or a comparison."""
