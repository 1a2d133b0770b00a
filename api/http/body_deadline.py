"""Bounds the time that a client may take to send its request's body.

gunicorn bounds the head alone (`keepalive`). A client that sends a byte now and then would hold its greenlet for ever.
A body that breaks off, or is not in the chunks it promised, is the client's error here, and no failure of the server.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from common.errors import InvalidRequest, RequestTimeout

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment


class BodyDeadline:
    """The application, with a limit on the time that the reading of each request's body may take.

    Does nothing under a server without gevent, which has no other way to leave a read.
    """

    def __init__(self, app: WSGIApplication, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if type(environ.get("gunicorn.socket")).__module__.startswith("gevent."):
            environ["wsgi.input"] = _Timed(environ["wsgi.input"], self._timeout_s)
        return self._app(environ, start_response)


class _Timed:
    """A request's body; reading it raises `RequestTimeout` when the time is up, `InvalidRequest` if it is broken."""

    def __init__(self, body: InputStream, timeout_s: float) -> None:
        self._body = body
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s

    def read(self, size: int = -1) -> Any:
        return self._within_time(self._body.read, size)

    def readline(self, size: int = -1) -> Any:
        return self._within_time(self._body.readline, size)

    def _within_time(self, read: Any, size: int) -> Any:
        from gevent import Timeout
        from gunicorn.http.errors import NoMoreData, ParseException

        late = RequestTimeout(f"The body did not arrive within {self._timeout_s:g} s.")
        try:
            with Timeout(max(0.001, self._deadline - time.monotonic()), late):
                return read(size) if size >= 0 else read()
        except NoMoreData as err:
            raise InvalidRequest("The body ended before its last chunk.") from err
        except ParseException as err:
            raise InvalidRequest(f"The body is not in valid chunks: {err}") from err
