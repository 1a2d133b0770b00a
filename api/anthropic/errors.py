"""Converts errors to the form that Anthropic's clients expect."""

from __future__ import annotations

from api.schemas.anthropic.responses import AnthropicError, AnthropicErrorBody, ErrorDetails
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
# With these details, Anthropic's runners of tools go on without threads: they send all messages in each request.
_WITHOUT_THREADS = ErrorDetails(error_code="thread_unsupported_request", unsupported=["thread"])


def body(err: SLMError, request_id: str) -> AnthropicError:
    """Return the error object."""
    kind = _TYPES.get(err.status, "invalid_request_error" if err.status < 500 else "api_error")
    error = AnthropicErrorBody(type=kind, message=err.message)
    if err.param == "thread":
        error["details"] = _WITHOUT_THREADS
    return AnthropicError(type="error", error=error, request_id=request_id)
