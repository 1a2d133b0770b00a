"""Marks a field of a request body with its purpose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """A sentence for the reference. The field's `description` says which values are allowed, and is used in errors.

    A field that several bodies share is marked in one of them.
    """

    text: str
