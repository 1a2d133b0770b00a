"""What is wrong with a dataset, each with its place and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from models.errors import DatasetError

MAX_FAULTS = 100  # of those that are listed; all of them are counted
MAX_LINES = 100  # line numbers in a list
MAX_CHARS = 500  # of a message, which may quote a template's own

T = TypeVar("T")


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

    def __post_init__(self) -> None:
        for name in ("field", "message"):  # a field's name may contain half of a surrogate pair
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, text[:MAX_CHARS].encode(errors="replace").decode())

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
    """A value is not as its format says; `path` leads to it from the record. `all` are this and further ones."""

    def __init__(self, message: str, *path: str | int, others: Sequence[Misfit] = ()) -> None:
        super().__init__(message)
        self.path = path
        self.all: tuple[Misfit, ...] = (self, *others)


def gather(*reads: Callable[[], T]) -> list[T]:
    """Call each function and return the results. Raises `Misfit` with everything that any of them found."""
    found: list[T] = []
    misfits: list[Misfit] = []
    for read in reads:
        try:
            found.append(read())
        except Misfit as err:
            misfits += err.all
    if misfits:
        first, *others = misfits
        raise Misfit(str(first), *first.path, others=others)
    return found


def field_name(path: Sequence[str | int]) -> str | None:
    """Write a path as in `messages[2].content`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")[:200] or None
