"""Every error of this client, as one tree. docs/errors.md has the server's codes.

SLMClientError
├── ConnectionLost          the server cannot be reached, or broke off, and asking again did not help
├── BadAnswer               the answer is not what this API gives: probably another server's
└── ApiError                the server said no; `code` says why
    ├── InvalidRequest      invalid_request, idempotency_mismatch, body_too_large, method_not_allowed,
    │   │                   unsupported_media_type, head_too_large
    │   └── PromptTooLong   prompt_too_long
    ├── Unauthorized        invalid_api_key
    ├── Forbidden           forbidden
    ├── NotFound            not_found
    │   ├── JobNotFound     job_not_found
    │   └── AdapterNotFound adapter_not_found
    ├── Conflict            conflict
    │   └── Cancelled       cancelled
    ├── RateLimited         rate_limit_exceeded, quota_exceeded
    ├── Unavailable         queue_full, no_worker, redis_unavailable, redis_full, overloaded, server_stopping,
    │   │                   request_timeout
    │   └── ModelUnavailable  model_unavailable
    ├── JobFailed           worker_lost, job_lost
    │   ├── JobExpired      job_expired
    │   └── JobTimeout      job_timeout
    └── ServerError         internal_error, and what a proxy in between may say
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

_TRANSIENT_STATUSES = {408, 429, 502, 503, 504}  # of answers without a code of ours


class SLMClientError(Exception):
    """Root of the tree."""


class ConnectionLost(SLMClientError):
    """The server cannot be reached or broke off. The request may have had its effect."""


class BadAnswer(SLMClientError):
    """The answer is not what the API's documents say."""


class ApiError(SLMClientError):
    """The server refused the request, or the job failed.

    `code` is the server's word for it ("" where a proxy answered), `status` the HTTP status (0 for a job's failure),
    `param` the field that is to blame, `retry_after_s` the time after which the server says that it may work.
    """

    is_transient: ClassVar[bool | None] = False  # may the same request succeed soon? None: its HTTP status tells

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
        """Whether the same request, sent again after a while, may be granted."""
        return self.status in _TRANSIENT_STATUSES if self.is_transient is None else self.is_transient


class InvalidRequest(ApiError):
    """Something in the request is wrong; the message says what would be right."""


class PromptTooLong(InvalidRequest):
    """Prompt and answer do not fit the model's context."""


class Unauthorized(ApiError):
    """The server wants an API key, and this is none of its own."""


class Forbidden(ApiError):
    """The API key does not allow this."""


class NotFound(ApiError):
    """The server has no such path."""


class JobNotFound(NotFound):
    """The server knows no such job (any more)."""


class AdapterNotFound(NotFound):
    """The server knows no such adapter."""


class Conflict(ApiError):
    """The request contradicts the server's present state."""


class Cancelled(Conflict):
    """The job was cancelled."""


class RateLimited(ApiError):
    """The API key has had as much as it may for now."""

    is_transient = True


class Unavailable(ApiError):
    """The server cannot take the job now."""

    is_transient = True


class ModelUnavailable(Unavailable):
    """The server cannot load its model; an operator must look."""

    is_transient = False


class JobFailed(ApiError):
    """The job was taken and failed. Repeating it takes a new Idempotency-Key: under the same one it has failed."""


class JobExpired(JobFailed):
    """The job waited longer than its `ttl`."""


class JobTimeout(JobFailed):
    """The job ran longer than its `timeout`."""


class ServerError(ApiError):
    """The server, or a proxy before it, failed."""

    is_transient = None


_BY_CODE: Mapping[str, type[ApiError]] = {
    "invalid_request": InvalidRequest,
    "prompt_too_long": PromptTooLong,
    "invalid_api_key": Unauthorized,
    "forbidden": Forbidden,
    "rate_limit_exceeded": RateLimited,
    "quota_exceeded": RateLimited,
    "idempotency_mismatch": InvalidRequest,
    "body_too_large": InvalidRequest,
    "unsupported_media_type": InvalidRequest,
    "head_too_large": InvalidRequest,
    "method_not_allowed": InvalidRequest,
    "not_found": NotFound,
    "job_not_found": JobNotFound,
    "adapter_not_found": AdapterNotFound,
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
    """The error that an answer (read in full, no success) tells of."""
    body = _json_object(response)
    message = str(body.get("error") or f"The server answered {response.status_code} {response.reason_phrase}".strip())
    retry_after_s = _seconds(response.headers.get("Retry-After"))
    return _build(message, body, status=response.status_code, retry_after_s=retry_after_s)


def error_from_frame(data: Mapping[str, Any]) -> ApiError:
    """The error that a stream's last frame, or the `error` of a job, tells of."""
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
    """The body; empty where it is no JSON object, as a proxy's page is not."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(header: str | None) -> float | None:
    """The server's Retry-After is always in seconds; a date (a proxy's) counts as none."""
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        return None
