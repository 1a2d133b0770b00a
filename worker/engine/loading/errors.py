"""The errors of reading a model's files."""

from __future__ import annotations

from jinja2 import TemplateError
from safetensors import SafetensorError

from models.errors import UnspellableText

LOAD_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    ImportError,
    SafetensorError,
    TemplateError,
    UnspellableText,
)


class UnusableFiles(Exception):
    """A model or tokenizer cannot be loaded from its files; the text names them and says why and how to fix it."""
