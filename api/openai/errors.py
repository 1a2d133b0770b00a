"""Converts errors to the form that OpenAI's clients expect."""

from __future__ import annotations

from api.schemas.errors import OpenAIError, OpenAIErrorBody
from common.errors import SLMError

# Of vLLM's and llama.cpp's servers, beside those under `/v1`.
ROOT_PATHS = (
    "/tokenize",
    "/detokenize",
    "/version",
    "/tokenizer_info",
    "/load",
    "/invocations",
    "/completion",
    "/infill",
    "/props",
    "/slots",
    "/apply-template",
)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {"prompt_too_long": "context_length_exceeded"}  # codes for which OpenAI has its own names


def body(err: SLMError) -> OpenAIError:
    """Return the error object, always with all four keys."""
    code = _CODES.get(err.code, err.code)
    return OpenAIError(error=OpenAIErrorBody(message=err.message, type=_type(err.status), param=err.param, code=code))


def _type(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def headers(err: SLMError) -> dict[str, str]:
    """Return the header that says whether to retry; without it, OpenAI's clients retry after 409 and every 5xx."""
    return {"X-Should-Retry": "true" if err.retryable else "false"}
