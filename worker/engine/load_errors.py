"""What can be wrong with a model's files."""

from __future__ import annotations


class UnusableFiles(Exception):
    """A model or tokenizer cannot be made of its files; the text names them, says why, and what would help."""
