"""What is wrong with a dataset, each with its place and what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.errors import DatasetError

MAX_FAULTS = 100  # of those that are listed; all of them are counted


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. Lines and columns count from 1; in CSV the column is the number of the cell.

    `field` is the path of the field, such as `messages[2].content`; None if the fault is not in a field.
    """

    line: int
    column: int
    field: str | None
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fault for a report."""
        return asdict(self)

    def __str__(self) -> str:
        subject = f"{self.field}: " if self.field else ""
        return f"line {self.line}, column {self.column}: {subject}{self.message}"


class DatasetFaults(DatasetError):
    """The dataset cannot be used. `faults` are the first `MAX_FAULTS` of `total`, in the order of the lines."""

    def __init__(self, name: str, faults: Sequence[Fault]) -> None:
        self.faults = sorted(faults, key=lambda one: (one.line, one.column))[:MAX_FAULTS]
        self.total = len(faults)
        more = f"\n... and {self.total - len(self.faults)} more" if self.total > len(self.faults) else ""
        super().__init__(f"{name} cannot be used:\n" + "\n".join(map(str, self.faults)) + more)


class Misfit(Exception):
    """A value is not as its format says; `path` leads to it from the row."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path

    def inside(self, *path: str | int) -> Misfit:
        """Return the misfit as seen from further outside."""
        return Misfit(str(self), *path, *self.path)


def field_name(path: Sequence[str | int]) -> str | None:
    """Write a path as in `messages[2].content`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")[:200] or None
