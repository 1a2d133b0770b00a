"""One record of a file, before it is known to be an example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Path = Sequence[str | int]
Place = tuple[int, int]  # line and column


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `place` finds the line and column of the value at a path inside it."""

    line: int
    value: Any
    place: Callable[[Path], Place]
