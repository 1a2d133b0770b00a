"""The shapes in which the APIs that the server speaks send their errors, by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api.anthropic import errors as anthropic
from api.jobs import response_bodies
from api.ollama import errors as ollama
from api.openai import errors as openai
from api.schemas.anthropic.responses import AnthropicError
from api.schemas.errors import Error, OpenAIError
from api.schemas.ollama.responses import OllamaError
from common.errors import SLMError


def _no_headers(_err: SLMError) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """The shape of an API's errors.

    Args:
        prefixes: how its paths begin, or whole paths.
        model: the body, for the reference.
        code_path: where the body has the error's code; empty if it has none.
        body: returns the body, from the error and the request's id.
        headers: returns additional headers.
    """

    prefixes: tuple[str, ...]
    model: type
    code_path: tuple[str, ...]
    body: Callable[[SLMError, str], Mapping[str, Any]]
    headers: Callable[[SLMError], dict[str, str]] = _no_headers


SLM = ErrorShape(("/",), Error, ("code",), response_bodies.error)
OPENAI = ErrorShape(
    ("/v1/", *openai.ROOT_PATHS), OpenAIError, ("error", "code"), lambda err, _: openai.body(err), openai.headers
)
OLLAMA = ErrorShape(("/api/",), OllamaError, (), lambda err, _: ollama.body(err))
ANTHROPIC = ErrorShape(
    (anthropic.PATH, f"{anthropic.PATH}/"), AnthropicError, ("error", "type"), anthropic.body, openai.headers
)
SHAPES = (ANTHROPIC, OPENAI, OLLAMA, SLM)  # the first one whose prefix fits


def shape_of(path: str) -> ErrorShape:
    """Return the shape of errors under that path."""
    return next(shape for shape in SHAPES if _covers(shape, path))


def _covers(shape: ErrorShape, path: str) -> bool:
    return any(path == prefix or (prefix.endswith("/") and path.startswith(prefix)) for prefix in shape.prefixes)
