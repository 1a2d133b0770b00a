"""Reports each request and its response to observers, as the WSGI server sees them: a stream ends with its last byte.

Flask's own hooks see neither the bytes of a streamed response nor the end of a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from flask import Flask, request

from common.observation import context

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ROUTE = "slm.route"  # key in the environ


class Exchange:
    """One request and its response so far. `status` is 0 until the response begins; `size` counts its body's bytes."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.environ = environ
        self.status = 0
        self.size = 0
        self._started_at = time.perf_counter()

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.environ["REQUEST_METHOD"])

    @property
    def path(self) -> str:
        """The path without its query, percent-encoded, so that it contains no spaces."""
        return quote(self.environ.get("PATH_INFO", "").encode("latin-1"))

    @property
    def route(self) -> str:
        """The route that matched, such as `/slm/jobs/<job_id>`; empty if none did."""
        return str(self.environ.get(_ROUTE, ""))

    @property
    def duration_s(self) -> float:
        """The time since the request's head was read."""
        return time.perf_counter() - self._started_at


class Observer(Protocol):
    """Is called for every exchange, in the greenlet that serves it."""

    def begin(self, exchange: Exchange) -> None:
        """Called when the request's head has been read."""
        ...

    def end(self, exchange: Exchange) -> None:
        """Called when the response has been sent or its client has gone, before the context's fields are cleared."""
        ...


def observe(app: Flask, observers: Sequence[Observer]) -> None:
    """Call the observers for everything that the application serves."""
    app.before_request(_note_route)
    app.wsgi_app = _Observed(app.wsgi_app, observers)  # type: ignore[method-assign]  # Flask's way to add middleware


def _note_route() -> None:
    if request.url_rule is not None:
        request.environ[_ROUTE] = request.url_rule.rule


class _Observed:
    """The application, with its observers around it."""

    def __init__(self, app: WSGIApplication, observers: Sequence[Observer]) -> None:
        self._app = app
        self._observers = observers

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange(environ)

        def note_status(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            exchange.status = int(status[:3])
            return start_response(status, headers, *exc_info)

        context.begin()
        for observer in self._observers:
            observer.begin(exchange)
        return _ObservedBody(self._app(environ, note_status), exchange, self._end)

    def _end(self, exchange: Exchange) -> None:
        for observer in self._observers:
            observer.end(exchange)
        context.begin()  # the connection's next request has its own id


class _ObservedBody:
    """The body's parts; counts their bytes, and calls `on_end` when the server is done with them."""

    def __init__(self, parts: Iterable[bytes], exchange: Exchange, on_end: Callable[[Exchange], None]) -> None:
        self._parts = parts
        self._exchange = exchange
        self._on_end = on_end

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self._exchange.size += len(part)
            yield part

    def close(self) -> None:
        """Called once by the WSGI server, whatever happened."""
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()
        finally:
            self._on_end(self._exchange)
