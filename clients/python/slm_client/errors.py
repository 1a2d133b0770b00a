"""All errors of this client, as one tree. docs/errors.md has the server's codes.

SLMClientError
├── ConnectionLost          the server is not reachable or the connection broke, and retries did not help
├── BadAnswer               the answer is not from this API, probably from another server
└── ApiError                the server rejected the request; `code` says why
    ├── InvalidRequest      invalid_request, idempotency_mismatch, body_too_large, method_not_allowed,
    │   │                   unsupported_media_type, range_not_satisfiable, head_too_large
    │   └── PromptTooLong   prompt_too_long
    ├── Unauthorized        invalid_api_key
    ├── Forbidden           forbidden
    ├── NotFound            not_found
    │   ├── JobNotFound     job_not_found
    │   ├── AdapterNotFound adapter_not_found
    │   └── ModelNotFound   model_not_found
    ├── Conflict            conflict
    │   └── Cancelled       cancelled
    ├── RateLimited         rate_limit_exceeded, quota_exceeded
    ├── Unavailable         queue_full, no_worker, redis_unavailable, redis_full, overloaded, server_stopping,
    │   │                   request_timeout
    │   └── ModelUnavailable  model_unavailable
    ├── JobFailed           worker_lost, job_lost, training_failed
    │   ├── JobExpired      job_expired
    │   └── JobTimeout      job_timeout
    └── ServerError         internal_error, and errors of a proxy in between
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

_TRANSIENT_STATUSES = {408, 429, 502, 503, 504}  # for answers without a code of the server


class SLMClientError(Exception):
    """Base class of the tree."""


class ConnectionLost(SLMClientError):
    """The server is not reachable or the connection broke. The request may have had its effect."""


class BadAnswer(SLMClientError):
    """The answer is not what the API's documentation says."""


class ApiError(SLMClientError):
    """The server rejected the request, or the job failed.

    `code` is the server's error code ("" if a proxy answered), `status` the HTTP status (0 for a failed job), `param`
    the field that caused the error, `retry_after_s` the seconds after which the server suggests a retry.
    """

    is_transient: ClassVar[bool | None] = False  # may the same request succeed soon? None: depends on the HTTP status

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int = 0,
        param: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.param = param
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    @property
    def is_worth_repeating(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in _TRANSIENT_STATUSES if self.is_transient is None else self.is_transient


class InvalidRequest(ApiError):
    """The request is not valid; the message says what would be right."""


class PromptTooLong(InvalidRequest):
    """Prompt and answer do not fit the model's context."""


class Unauthorized(ApiError):
    """The server requires an API key, and the given one is missing or unknown."""


class Forbidden(ApiError):
    """The API key does not allow this."""


class NotFound(ApiError):
    """The server has no such path."""


class JobNotFound(NotFound):
    """The server does not have this job (any more)."""


class AdapterNotFound(NotFound):
    """The server does not have this adapter."""


class ModelNotFound(NotFound):
    """The server has no model of this name; the message lists those that it has."""


class Conflict(ApiError):
    """The request conflicts with the server's current state."""


class Cancelled(Conflict):
    """The job was cancelled."""


class RateLimited(ApiError):
    """The API key has reached one of its limits."""

    is_transient = True


class Unavailable(ApiError):
    """The server cannot accept the job now."""

    is_transient = True


class ModelUnavailable(Unavailable):
    """The server cannot load its model; this needs an operator."""

    is_transient = False


class JobFailed(ApiError):
    """The job was accepted and failed. A retry needs a new Idempotency-Key: the old one returns the failed job."""


class JobExpired(JobFailed):
    """The job waited longer than its `ttl`."""


class JobTimeout(JobFailed):
    """The job ran longer than its `timeout`."""


class ServerError(ApiError):
    """The server or a proxy in front of it failed."""

    is_transient = None


_BY_CODE: Mapping[str, type[ApiError]] = {
    "invalid_request": InvalidRequest,
    "prompt_too_long": PromptTooLong,
    "context_length_exceeded": PromptTooLong,  # its name under /v1
    "invalid_api_key": Unauthorized,
    "forbidden": Forbidden,
    "rate_limit_exceeded": RateLimited,
    "quota_exceeded": RateLimited,
    "idempotency_mismatch": InvalidRequest,
    "body_too_large": InvalidRequest,
    "unsupported_media_type": InvalidRequest,
    "range_not_satisfiable": InvalidRequest,
    "head_too_large": InvalidRequest,
    "method_not_allowed": InvalidRequest,
    "not_found": NotFound,
    "job_not_found": JobNotFound,
    "adapter_not_found": AdapterNotFound,
    "model_not_found": ModelNotFound,
    "conflict": Conflict,
    "cancelled": Cancelled,
    "request_timeout": Unavailable,
    "queue_full": Unavailable,
    "no_worker": Unavailable,
    "redis_unavailable": Unavailable,
    "redis_full": Unavailable,
    "overloaded": Unavailable,
    "server_stopping": Unavailable,
    "model_unavailable": ModelUnavailable,
    "job_expired": JobExpired,
    "job_timeout": JobTimeout,
    "worker_lost": JobFailed,
    "job_lost": JobFailed,
    "training_failed": JobFailed,
    "internal_error": ServerError,
}
_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}


def error_from_response(response: httpx.Response) -> ApiError:
    """Return the error for an unsuccessful response, which must have been read in full."""
    body = _json_object(response)
    if isinstance(body.get("error"), dict):
        body = {**body["error"], "error": body["error"].get("message")}  # OpenAI's form, on the routes under /v1
    message = str(body.get("error") or f"The server answered {response.status_code} {response.reason_phrase}".strip())
    retry_after_s = _seconds(response.headers.get("Retry-After"))
    return _build(message, body, status=response.status_code, retry_after_s=retry_after_s)


def error_from_frame(data: Mapping[str, Any]) -> ApiError:
    """Return the error in a stream's last frame or in the `error` of a job."""
    return _build(str(data.get("error") or data.get("message")), data, status=0, retry_after_s=None)


def _build(message: str, fields: Mapping[str, Any], *, status: int, retry_after_s: float | None) -> ApiError:
    code = str(fields.get("code") or "")
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, ServerError)
    return kind(
        message,
        code=code,
        status=status,
        param=fields.get("param"),
        request_id=fields.get("request_id"),
        retry_after_s=retry_after_s,
    )


def _json_object(response: httpx.Response) -> Mapping[str, Any]:
    """Return the body; empty if it is not a JSON object, such as a proxy's page."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(header: str | None) -> float | None:
    """Parse Retry-After, which the server always sends in seconds; a date (from a proxy) is ignored."""
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        return None
