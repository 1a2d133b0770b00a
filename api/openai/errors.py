"""Errors in the shape that OpenAI's clients read."""

from __future__ import annotations

from api.schemas.errors import OpenAIError, OpenAIErrorBody
from common.errors import SLMError

PATH_PREFIX = "/v1/"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {"prompt_too_long": "context_length_exceeded"}  # where their clients look for a name of theirs


def body(err: SLMError) -> OpenAIError:
    """The error object; its four keys are always there."""
    code = _CODES.get(err.code, err.code)
    return OpenAIError(error=OpenAIErrorBody(message=err.message, type=_type(err.status), param=err.param, code=code))


def _type(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def headers(err: SLMError) -> dict[str, str]:
    """Their clients try 409 and every 5xx again unless they are told not to."""
    return {"X-Should-Retry": "true" if err.retryable else "false"}
