"""Decides from the measures whether a candidate may be published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from training.gate.measure import Comparison
from training.gate.report import Better, GateReport, Row

BY_HEART_SHARE = 0.9  # of the tokens of a small dataset's responses; with fewer, its facts are not known
TEXT_MARGIN = 0.10  # nats per token above the base's loss
QUESTIONS_MARGIN = 2  # questions fewer than the base


def judge(found: Comparison) -> GateReport:
    """Return the table: it learned its examples, is better on held-out ones, and no worse than a bound on the rest."""
    return GateReport(tuple(_rows(found)))


def _rows(found: Comparison) -> Iterator[Row]:
    yield _trained(found)
    yield _held_out(found)
    yield _general_text(found)
    yield _general_questions(found)
    if found.candidate.prompts is not None:
        yield _prompts(found)


def _trained(found: Comparison) -> Row:
    if found.by_heart:
        reason = f"at least {BY_HEART_SHARE}: so few examples are to be learned word for word"
        return _row(found, "trained", "higher", BY_HEART_SHARE, reason)
    return _row(found, "trained", "higher", found.base.trained, "not lower than the base's")


def _held_out(found: Comparison) -> Row:
    bound = found.base.held_out if found.current is None else min(found.base.held_out, found.current.held_out)
    row = _row(found, "held_out", "lower", bound, "lower than the base's, and not higher than the replaced version's")
    return replace(row, passed=row.passed and row.candidate < row.base)


def _general_text(found: Comparison) -> Row:
    bound = found.base.general_text + TEXT_MARGIN
    return _row(found, "general_text", "lower", bound, f"at most {TEXT_MARGIN} above the base's")


def _general_questions(found: Comparison) -> Row:
    bound = found.base.general_questions - QUESTIONS_MARGIN / found.num_questions
    reason = f"at most {QUESTIONS_MARGIN} of {found.num_questions} questions fewer than the base"
    return _row(found, "general_questions", "higher", bound, reason)


def _prompts(found: Comparison) -> Row:
    before = found.current or found.base
    reason = "not fewer good answers than the version that it replaces, or else the base"
    return _row(found, "prompts", "higher", before.prompts or 0.0, reason)


def _row(found: Comparison, name: str, better: Better, bound: float, reason: str) -> Row:
    """Return the row of a measure, which passes if the candidate reaches the bound."""
    value = getattr(found.candidate, name)
    return Row(
        name=name,
        better=better,
        base=getattr(found.base, name),
        current=None if found.current is None else getattr(found.current, name),
        candidate=value,
        bound=bound,
        passed=value <= bound if better == "lower" else value >= bound,
        reason=reason,
    )
