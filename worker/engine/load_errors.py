"""The error for unusable model files."""

from __future__ import annotations


class UnusableFiles(Exception):
    """A model or tokenizer cannot be loaded from its files; the text names them and says why and how to fix it."""
