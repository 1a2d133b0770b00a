"""Converts errors to the form that Anthropic's clients expect."""

from __future__ import annotations

from api.schemas.anthropic.responses import AnthropicError, AnthropicErrorBody
from common.errors import SLMError

PATH = "/v1/messages"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def body(err: SLMError, request_id: str) -> AnthropicError:
    """Return the error object."""
    kind = _TYPES.get(err.status, "invalid_request_error" if err.status < 500 else "api_error")
    return AnthropicError(type="error", error=AnthropicErrorBody(type=kind, message=err.message), request_id=request_id)
