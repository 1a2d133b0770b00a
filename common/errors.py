"""Every error that the API returns to a client, as one class tree.

SLMError                     code                 HTTP  retryable
├── InvalidRequest           invalid_request      400   no     a field of the request is wrong; `param` names it
│   └── PromptTooLong        prompt_too_long      400   no     prompt and answer do not fit the context
├── Unauthorized             invalid_api_key      401   no     the request has no key, or an unknown key
├── Forbidden                forbidden            403   no     the key's role may not do this
├── NotFound                 not_found            404   no
│   ├── JobNotFound          job_not_found        404   no
│   ├── AdapterNotFound      adapter_not_found    404   no
│   └── ModelNotFound        model_not_found      404   no
├── MethodNotAllowed         method_not_allowed   405   no
├── RequestTimeout           request_timeout      408   yes    the client took too long to send its body
├── Conflict                 conflict             409   no     e.g. the model was unloaded under the job
│   └── Cancelled            cancelled            409   no     the awaited job was cancelled
├── BodyTooLarge             body_too_large       413   no
├── UnsupportedMediaType     unsupported_media_type 415 no    the route does not read bodies of this type
├── RangeNotSatisfiable      range_not_satisfiable 416  no     the file has no such part
├── IdempotencyMismatch      idempotency_mismatch 422   no     the key was used before, with another request
├── HeadTooLarge             head_too_large       431   no     the request line or the header fields are too long
├── RateLimitExceeded        rate_limit_exceeded  429   yes    the owner of the key has reached a rate limit
│   └── QuotaExceeded        quota_exceeded       429   no     the owner has reached a storage limit
├── ModelUnavailable         model_unavailable    503   no     the configured model cannot be loaded
├── Overloaded               overloaded           503   yes    the API has more requests than it can handle
├── ServerStopping           server_stopping      503   yes    this process is stopping, maybe for a restart
├── QueueFull                queue_full           503   yes
├── NoWorker                 no_worker            503   yes    no worker is alive to take the job
├── RedisUnavailable         redis_unavailable    503   yes    Redis does not answer or refuses writes
├── RedisFull                redis_full           503   yes    Redis has no memory left for another job
├── JobExpired               job_expired          503   yes    the job waited longer than its `ttl`
├── JobTimeout               job_timeout          503   no     the job ran longer than its `timeout`
├── JobLost                  job_lost             503   yes    the job store lost the job, or its record expired
├── WorkerLost               worker_lost          500   yes    the job's workers died `MAX_CRASHES` times
├── TrainingFailed           training_failed      500   no     a training run or an evaluation could not go on
└── InternalError            internal_error       500   no     a bug; the details are in the log only

Between processes an error travels as the dict of `SLMError.to_dict` (in a job's record and its `error` event);
`SLMError.from_dict` rebuilds it, so that the API answers with the status that the worker chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class SLMError(Exception):
    """Base of the tree. `message` is for the client and says how to correct the request."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def to_dict(self) -> dict[str, Any]:
        """Return the wire form: `code`, `message`, and `param` and `retry_after_s` if they are set."""
        wire: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.param is not None:
            wire["param"] = self.param
        if self.retry_after_s is not None:
            wire["retry_after_s"] = self.retry_after_s
        return wire

    @staticmethod
    def from_dict(wire: dict[str, Any]) -> SLMError:
        """Rebuild the error; an unknown code (from a newer worker) becomes `InternalError`."""
        cls = _BY_CODE.get(wire["code"], InternalError)
        return cls(wire["message"], param=wire.get("param"), retry_after_s=wire.get("retry_after_s"))

    def renamed(self, names: Mapping[str, str]) -> SLMError:
        """Return the error with its `param` renamed by `names` (old name -> new name), if it is among them."""
        if self.param is None or self.param not in names:
            return self
        return SLMError.from_dict(self.to_dict() | {"param": names[self.param]})


class InvalidRequest(SLMError):
    """A field of the request is missing, of the wrong type, out of range or unknown."""

    code, status = "invalid_request", 400


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room for an answer in the model's context."""

    code = "prompt_too_long"


class Unauthorized(SLMError):
    """The request has no API key, or an unknown one."""

    code, status = "invalid_api_key", 401


class Forbidden(SLMError):
    """The role of the request's key may not do this."""

    code, status = "forbidden", 403


class NotFound(SLMError):
    """No route or resource has that path."""

    code, status = "not_found", 404


class JobNotFound(NotFound):
    """No job has that id, or its record has expired."""

    code = "job_not_found"


class AdapterNotFound(NotFound):
    """No adapter of that name is known."""

    code = "adapter_not_found"


class ModelNotFound(NotFound):
    """No model or adapter of that name is served."""

    code = "model_not_found"


class MethodNotAllowed(SLMError):
    """The path exists, but not under that HTTP method."""

    code, status = "method_not_allowed", 405


class RequestTimeout(SLMError):
    """The request's body did not arrive in time."""

    code, status, retryable = "request_timeout", 408, True


class Conflict(SLMError):
    """The request conflicts with the current state."""

    code, status = "conflict", 409


class Cancelled(Conflict):
    """Somebody cancelled the job that the client was waiting for."""

    code = "cancelled"


class BodyTooLarge(SLMError):
    """The request body is over the limit."""

    code, status = "body_too_large", 413


class UnsupportedMediaType(SLMError):
    """The request body is compressed, or has a type that the route does not read."""

    code, status = "unsupported_media_type", 415


class IdempotencyMismatch(SLMError):
    """The Idempotency-Key belongs to a request with another body."""

    code, status = "idempotency_mismatch", 422


class RangeNotSatisfiable(SLMError):
    """The header `Range` asks for a part that the file does not have."""

    code, status = "range_not_satisfiable", 416


class HeadTooLarge(SLMError):
    """The request line or the header fields are over the limits."""

    code, status = "head_too_large", 431


class RateLimitExceeded(SLMError):
    """The owner of the request's key has reached a rate limit; `limit` is its value, if known."""

    code, status, retryable = "rate_limit_exceeded", 429, True

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: int | None = None, limit: int | None = None
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.limit = limit


class QuotaExceeded(RateLimitExceeded):
    """The owner of the request's key has reached a storage limit."""

    code, retryable = "quota_exceeded", False


class JobExpired(SLMError):
    """The job waited for a worker longer than its `ttl`."""

    code, status, retryable = "job_expired", 503, True


class JobTimeout(SLMError):
    """The job ran longer than its `timeout`."""

    code, status = "job_timeout", 503


class JobLost(SLMError):
    """The job store no longer has the job that the client was reading or waiting for."""

    code, status, retryable = "job_lost", 503, True


class ModelUnavailable(SLMError):
    """The configured base model or adapter cannot be loaded."""

    code, status = "model_unavailable", 503


class Overloaded(SLMError):
    """The server has more requests than it can handle; it did not start this one."""

    code, status, retryable = "overloaded", 503, True


class ServerStopping(SLMError):
    """The server is being stopped or restarted."""

    code, status, retryable = "server_stopping", 503, True


class QueueFull(SLMError):
    """The queue has reached its limit of waiting jobs."""

    code, status, retryable = "queue_full", 503, True


class NoWorker(SLMError):
    """No worker is alive to take the job."""

    code, status, retryable = "no_worker", 503, True


class RedisUnavailable(SLMError):
    """The job store does not answer."""

    code, status, retryable = "redis_unavailable", 503, True


class RedisFull(SLMError):
    """The job store has reached its memory limit."""

    code, status, retryable = "redis_full", 503, True


class WorkerLost(SLMError):
    """Every attempt of the job ended with the death of its worker."""

    code, status, retryable = "worker_lost", 500, True


class TrainingFailed(SLMError):
    """A training run or an evaluation could not go on."""

    code = "training_failed"


class InternalError(SLMError):
    """A bug in the server."""


def _tree(cls: type[SLMError]) -> dict[str, type[SLMError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        found |= _tree(child)
    return found


_BY_CODE = _tree(SLMError) | {"internal_error": InternalError}
