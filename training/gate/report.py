"""The gate's result: a table that says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        name: a field of `Measures`: `trained`, `held_out`, `general_text`, `general_questions` or `prompts`.
        better: whether a lower or a higher value is better.
        base: the base model's value.
        current: that of the version to be replaced; None if there is none.
        candidate: that of the new version.
        bound: the value that the candidate must reach: at most (`lower`) or at least (`higher`).
        reason: what the candidate must be.
    """

    name: str
    better: Better
    base: float
    current: float | None
    candidate: float
    bound: float
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gate's result: one row for each measure."""

    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return `{"passed": ..., "rows": [{"name": ..., "base": ..., ...}, ...]}`."""
        return {"passed": self.passed, "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_json(cls, report: Mapping[str, Any]) -> GateReport:
        """Read what `to_json` returned."""
        return cls(tuple(Row(**row) for row in report["rows"]))
