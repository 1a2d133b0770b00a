"""Converts errors to the form that Ollama's clients expect."""

from __future__ import annotations

from api.schemas.ollama.responses import OllamaError
from common.errors import SLMError


def body(err: SLMError) -> OllamaError:
    """Return the error object."""
    return OllamaError(error=err.message)
