"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARNING = "warning"  # it works, but slower or less safely than it could
    PROBLEM = "problem"  # the server does not start, or will fail


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found. `advice` says what to change; empty if there is nothing to change."""

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """Return a finding without advice."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """Return a finding that is worth a change."""
    return Finding(check, Level.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Return a finding that needs a change."""
    return Finding(check, Level.PROBLEM, found, advice)
