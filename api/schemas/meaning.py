"""What a field of a request body is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """Mark of a field: one sentence for the reference. Its `description` says what a value must be; refusals repeat it.

    A field that several bodies have is marked in one of them.
    """

    text: str
