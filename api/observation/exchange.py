"""A request and its answer as the WSGI server sees them, for those who observe: streams end when their last byte does.

Flask's own hooks see neither the bytes of a streamed answer nor the end of a file's.
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
    """One request and its answer so far. `status` is 0 until the answer begins; `size` counts its body's bytes."""

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
        """The path without its query, percent-encoded: one word, whatever the client sent."""
        return quote(self.environ.get("PATH_INFO", "").encode("latin-1"))

    @property
    def route(self) -> str:
        """The route that took it, as `/slm/jobs/<job_id>`; "" where none did."""
        return str(self.environ.get(_ROUTE, ""))

    @property
    def duration_s(self) -> float:
        """Since the request's head was read."""
        return time.perf_counter() - self._started_at


class Observer(Protocol):
    """Is told of every exchange, in the greenlet that serves it."""

    def begin(self, exchange: Exchange) -> None:
        """The request's head is there."""
        ...

    def end(self, exchange: Exchange) -> None:
        """The answer's last byte went out, or its client has gone. The context's fields still hold."""
        ...


def observe(app: Flask, observers: Sequence[Observer]) -> None:
    """Have the observers told of everything that the application serves."""
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
        return _Answer(self._app(environ, note_status), exchange, self._end)

    def _end(self, exchange: Exchange) -> None:
        for observer in self._observers:
            observer.end(exchange)
        context.begin()  # the connection's next request has an id of its own


class _Answer:
    """The answer's parts; counts them, and tells when the server has done with them."""

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
