"""Hides what other people's packages say about each other."""

from __future__ import annotations

import warnings


def without_deprecations() -> warnings.catch_warnings[None]:
    """Return a context without FutureWarnings: TRL 1.16 and peft 0.21 use names that transformers 5.23 deprecates."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)
