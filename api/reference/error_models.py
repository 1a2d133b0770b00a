"""Describes the error responses of routes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from api.openai import errors as openai_errors
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


def error_responses(kinds: Iterable[type[SLMError]], *, is_openai: bool) -> dict[str, Any]:
    """Return the response objects of the errors, by status."""
    ordered = sorted(set(kinds), key=lambda kind: (kind.status, kind.code))
    return {
        str(status): _answer(list(group), is_openai=is_openai)
        for status, group in groupby(ordered, key=lambda kind: kind.status)
    }


def _answer(kinds: list[type[SLMError]], *, is_openai: bool) -> dict[str, Any]:
    codes = [openai_errors.body(kind(""))["error"]["code"] if is_openai else kind.code for kind in kinds]
    meanings = [f"- `{code}`: {_first_line(kind)}" for code, kind in zip(codes, kinds, strict=True)]
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _headers(kinds[0].status, is_openai)}
    schema = _openai_schema(codes) if is_openai else _schema(codes)
    return {"description": "\n".join(meanings), "headers": headers, "content": {JSON: {"schema": schema}}}


def _first_line(kind: type[SLMError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _headers(status: int, is_openai: bool) -> list[str]:
    of_status = {401: ["WWW-Authenticate"], 429: ["Retry-After", *RATE], 503: ["Retry-After"]}
    return [*ALWAYS, *of_status.get(status, []), *(["X-Should-Retry"] if is_openai else [])]


def _schema(codes: list[str]) -> Schema:
    return {"allOf": [{"$ref": "#/components/schemas/Error"}, {"properties": {"code": {"enum": codes}}}]}


def _openai_schema(codes: list[str]) -> Schema:
    only_codes = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    return {"allOf": [{"$ref": "#/components/schemas/OpenAIError"}, only_codes]}
