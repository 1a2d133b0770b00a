"""Extends gunicorn's gevent worker at the level of connections.

- Requests that gunicorn itself rejects (the head is too large or not HTTP) get a JSON response, like all others.
- A response that is sent before the request's body was read reaches clients that read only after sending everything.

gunicorn's master loads this module before anything is patched, so nothing here may import modules that gevent patches.
"""

from __future__ import annotations

import json
import socket
import uuid
from http import HTTPStatus
from typing import Any

import gevent
from gunicorn.http.errors import (
    ConfigurationProblem,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.workers.ggevent import GeventWorker

from common.errors import HeadTooLarge, InternalError, InvalidRequest, SLMError

LINGER_S = 30.0
LINGER_BYTES = 256 * 1024 * 1024
STEP_BYTES = 64 * 1024

_OURS = (ConfigurationProblem, InvalidResponseHeader, InvalidResponseHeaderName)


class ApiWorker(GeventWorker):  # type: ignore[misc]
    """One process of the API."""

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Serve a request, then let its client finish sending."""
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            finish_reading(req.body, sock)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that never reached the application."""
        del req, addr
        err, request_id = meaning(exc), uuid.uuid4().hex
        if isinstance(err, InternalError):
            self.log.error("request %s: connection failed", request_id, exc_info=exc)
        else:
            self.log.warning("request %s: %s (%s)", request_id, err.code, exc)
        try:
            client.sendall(answer(err, request_id))
            _close_slowly(client)
        except OSError:
            self.log.debug("request %s: not answered, the client has gone", request_id)


def meaning(exc: BaseException) -> SLMError:
    """Return the error for a client after a failure in gunicorn."""
    if isinstance(exc, (LimitRequestLine, LimitRequestHeaders)):
        return HeadTooLarge(f"The request's head is too large: {exc}")
    if isinstance(exc, ParseException) and not isinstance(exc, _OURS):
        return InvalidRequest(f"The request is not valid HTTP: {exc}")
    return InternalError("The server failed; its log has the details under the request id.")


def answer(err: SLMError, request_id: str) -> bytes:
    """Return the whole response, head and body."""
    body = json.dumps({"success": False, "error": err.message, "code": err.code, "request_id": request_id}).encode()
    head = [
        f"HTTP/1.1 {err.status} {HTTPStatus(err.status).phrase}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-Id: {request_id}",
        "X-Content-Type-Options: nosniff",
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def finish_reading(body: Any, sock: Any) -> None:
    """Read and discard the part of a request's body that the application did not read, within limits.

    A connection that is closed with unread bytes is reset, and the reset can overtake the response (RFC 9112, 9.6).
    """
    if body.failed:  # the end of the body is unknown
        _close_slowly(sock)
        return
    left = LINGER_BYTES
    with gevent.Timeout(LINGER_S, False):
        while left > 0 and (data := _read(body)):
            left -= len(data)


def _read(body: Any) -> bytes:
    try:
        return bytes(body.read(STEP_BYTES))
    except (OSError, ParseException):
        return b""


def _close_slowly(sock: Any) -> None:
    """Close the sending side, and discard received bytes until the client closes, too."""
    left = LINGER_BYTES
    with gevent.Timeout(LINGER_S, False):
        try:
            sock.shutdown(socket.SHUT_WR)
            while left > 0 and (data := sock.recv(STEP_BYTES)):
                left -= len(data)
        except OSError:
            return
