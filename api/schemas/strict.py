"""The base of all objects that clients send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Strict(BaseModel):
    """A JSON object from a client: values are not converted, and unknown fields are rejected.

    Its validator is built when the first one arrives: a process that starts would spend a third of its time on that.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


# For lists: stop at the first wrong value, instead of collecting up to a million errors.
FIRST_ERROR = Field(fail_fast=True)


def at_most(count: int) -> BeforeValidator:
    """Return a validator that rejects objects with more fields, before any of them is checked."""
    return BeforeValidator(_bounded(count))


def _bounded(count: int) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > count:
            raise ValueError(f"must have at most {count} fields; got {len(value)}")
        return value

    return check
