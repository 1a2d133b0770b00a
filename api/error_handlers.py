"""Translates every failure into a JSON error response; stack traces only go to the log."""

from __future__ import annotations

import logging
from urllib.parse import quote

from flask import Flask, Response, jsonify, request
from redis.exceptions import RedisError
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestedRangeNotSatisfiable,
    RequestEntityTooLarge,
)

from api.auth.rates import Allowance
from api.current import note_allowance, request_id, services
from api.error_shapes import shape_of
from common import errors
from common.errors import InternalError, Overloaded, RateLimitExceeded, RedisUnavailable, SLMError
from common.redis.client import explain

OVERLOAD_RETRY_S = 5

log = logging.getLogger(__name__)


def register_error_handlers(app: Flask) -> None:
    """Handle our own errors, errors of Flask and Redis, and bugs."""
    app.register_error_handler(SLMError, lambda err: _answer(_reclassified(err)))
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(RedisError, _redis_failed)
    app.register_error_handler(Exception, _bug)


def _answer(err: SLMError) -> Response:
    shape = shape_of(request.path)
    response = jsonify(shape.body(err, request_id()))
    response.headers.update(shape.headers(err))
    response.status_code = err.status
    if err.retry_after_s is not None:
        response.headers["Retry-After"] = str(err.retry_after_s)
    if isinstance(err, RateLimitExceeded):
        note_allowance(Allowance.used_up(err))
    return response


def _reclassified(err: SLMError) -> SLMError:
    """Blame this process instead of Redis if it was too busy to read Redis's answers."""
    if isinstance(err, RedisUnavailable) and services().starvation.is_starved:
        return Overloaded("The server is overloaded; try again.", retry_after_s=OVERLOAD_RETRY_S)
    return err


def _http_exception(err: HTTPException) -> Response:
    response = _answer(_translate(err))
    if isinstance(err, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(err.valid_methods or ()))
    if isinstance(err, RequestedRangeNotSatisfiable) and err.length is not None:
        response.headers["Content-Range"] = f"{err.units} */{err.length}"
    return response


def _translate(err: HTTPException) -> SLMError:
    match err:
        case NotFound():
            return errors.NotFound(f"There is nothing at {request.path[:200]}")
        case MethodNotAllowed():
            allowed = ", ".join(sorted(err.valid_methods or ()))
            return errors.MethodNotAllowed(f"{request.path} does not allow {request.method}; it allows {allowed}")
        case RequestEntityTooLarge():
            limit = request.max_content_length
            return errors.BodyTooLarge(f"The body must not be larger than {limit} bytes")
        case RequestedRangeNotSatisfiable():
            return errors.RangeNotSatisfiable("The file has no such part; Content-Range has its size.")
    if err.code is not None and err.code < 500:
        return errors.InvalidRequest(err.description or err.name)
    log.error("request %s: %s", request_id(), err)
    return errors.InternalError("The server failed; its log has the details under the request id.")


def _redis_failed(err: RedisError) -> Response:
    meaning = _reclassified(explain(err))
    if isinstance(meaning, InternalError):
        return _bug(err)
    log.warning("request %s: %s (%s)", request_id(), meaning.code, err)
    return _answer(meaning)


def _bug(_err: Exception) -> Response:
    log.exception("request %s: %s %s failed", request_id(), request.method, quote(request.path))
    return _answer(errors.InternalError("The server failed; its log has the details under the request id."))
