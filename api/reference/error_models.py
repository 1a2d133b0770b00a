"""Describes the error responses of routes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from api.error_shapes import ErrorShape
from api.reference.headers import ALWAYS, RATE
from api.reference.operation import JSON, Schema
from common import errors
from common.errors import SLMError

GATE = (errors.Unauthorized, errors.Forbidden, errors.RateLimitExceeded, errors.RedisUnavailable, errors.Overloaded)
BODY = (errors.InvalidRequest, errors.RequestTimeout, errors.BodyTooLarge, errors.UnsupportedMediaType)
OF_EVERY = (errors.InternalError,)
ENTERING = (errors.NoWorker, errors.RedisFull, errors.QuotaExceeded, errors.ServerStopping)
GENERATION = (
    *ENTERING,
    errors.QueueFull,
    errors.PromptTooLong,
    errors.ModelNotFound,
    errors.NotFound,
    errors.Conflict,
    errors.Cancelled,
    errors.ModelUnavailable,
    errors.JobExpired,
    errors.JobTimeout,
    errors.JobLost,
    errors.WorkerLost,
)
MODEL_CHANGE = (
    *ENTERING,
    errors.Conflict,
    errors.Cancelled,
    errors.ModelUnavailable,
    errors.JobLost,
    errors.WorkerLost,
)


def error_responses(kinds: Iterable[type[SLMError]], shape: ErrorShape) -> dict[str, Any]:
    """Return the response objects of the errors, by status."""
    ordered = sorted(set(kinds), key=lambda kind: (kind.status, kind.code))
    return {
        str(status): _answer(list(group), shape) for status, group in groupby(ordered, key=lambda kind: kind.status)
    }


def _answer(kinds: list[type[SLMError]], shape: ErrorShape) -> dict[str, Any]:
    codes = [_code(kind, shape) for kind in kinds]
    meanings = [f"- `{code}`: {_first_line(kind)}" for code, kind in zip(codes, kinds, strict=True)]
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _headers(kinds[0], shape)}
    return {
        "description": "\n".join(meanings),
        "headers": headers,
        "content": {JSON: {"schema": _schema(codes, shape)}},
    }


def _code(kind: type[SLMError], shape: ErrorShape) -> str:
    """Return the code as the shape has it; our own if it has none."""
    value: Any = shape.body(kind(""), "")
    for name in shape.code_path:
        value = value[name]
    return str(value) if shape.code_path else kind.code


def _first_line(kind: type[SLMError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _headers(kind: type[SLMError], shape: ErrorShape) -> list[str]:
    of_status = {401: ["WWW-Authenticate"], 429: ["Retry-After", *RATE], 503: ["Retry-After"]}
    return [*ALWAYS, *of_status.get(kind.status, []), *shape.headers(kind(""))]


def _schema(codes: list[str], shape: ErrorShape) -> Schema:
    """Return the schema of the body with only these codes."""
    whole: Schema = {"$ref": f"#/components/schemas/{shape.model.__name__}"}
    if not shape.code_path:
        return whole
    only: Schema = {"enum": sorted(set(codes))}
    for name in reversed(shape.code_path):
        only = {"properties": {name: only}}
    return {"allOf": [whole, only]}
