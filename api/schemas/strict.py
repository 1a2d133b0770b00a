"""What all objects that clients send have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Strict(BaseModel):
    """A JSON object of a client's: nothing is converted, and nothing unknown is let pass."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


# Of a list: a million wrong values are not worth a million errors.
FIRST_ERROR = Field(fail_fast=True)


def at_most(count: int) -> BeforeValidator:
    """Of an object: refuses one with more fields before it looks at any of them."""
    return BeforeValidator(_bounded(count))


def _bounded(count: int) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > count:
            raise ValueError(f"must have at most {count} fields; got {len(value)}")
        return value

    return check
