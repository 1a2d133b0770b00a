"""Limits the time that a client may take to send the body of its request.

gunicorn limits the time for the head only (`keepalive`). A client that sends a byte now and then would keep its
greenlet forever. A body that breaks off or is not validly chunked is reported as the client's error, not the server's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from common.errors import InvalidRequest, RequestTimeout

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment


class BodyDeadline:
    """The application with a limit on the time for reading each request's body.

    Has no effect in a server without gevent, in which a read cannot be interrupted.
    """

    def __init__(self, app: WSGIApplication, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if type(environ.get("gunicorn.socket")).__module__.startswith("gevent."):
            environ["wsgi.input"] = _Timed(environ["wsgi.input"], self._timeout_s)
        return self._app(environ, start_response)


def restart_deadline(environ: WSGIEnvironment) -> None:
    """Give the client the whole time again, because it has sent a good part of a long body."""
    if isinstance(body := environ["wsgi.input"], _Timed):
        body.restart()


class _Timed:
    """A request's body. Reading raises `RequestTimeout` when the time is up, and `InvalidRequest` if it is broken."""

    def __init__(self, body: InputStream, timeout_s: float) -> None:
        self._body = body
        self._timeout_s = timeout_s
        self.restart()

    def restart(self) -> None:
        self._deadline = time.monotonic() + self._timeout_s

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
