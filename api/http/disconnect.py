"""Detects immediately that a client has disconnected.

A WSGI server notices it only at its next write; until then, a silent stream or a waiting request would keep its
subscription. gunicorn gives the connection to the application, and a greenlet here watches it.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Mapping
from typing import Any


def watch_client(environ: Mapping[str, Any], on_disconnect: Callable[[], None]) -> Callable[[], None]:
    """Call `on_disconnect` when the client closes its connection; return a function that stops watching.

    Has no effect if the connection cannot be watched: in a server other than gunicorn with gevent, and with TLS that
    gunicorn itself terminates.
    """
    connection = environ.get("gunicorn.socket")
    if not _is_watchable(connection):
        return _nothing
    from gevent import spawn

    watcher = spawn(_watch, connection, on_disconnect)
    return watcher.kill  # type: ignore[no-any-return]


def has_disconnected(environ: Mapping[str, Any]) -> bool:
    """Return whether the client has closed its connection; False if that cannot be determined."""
    connection: Any = environ.get("gunicorn.socket")
    return _is_watchable(connection) and _is_readable(connection) and _is_at_end(connection)


def _is_readable(connection: Any) -> bool:
    """Check without waiting, and without letting another greenlet run."""
    from gevent.monkey import get_original

    poll = get_original("select", "poll")()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _is_at_end(connection: socket.socket) -> bool:
    """Return whether a readable connection has ended. If another request has arrived, an end after it is not seen."""
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def _is_watchable(connection: object) -> bool:
    """Check the module's name, because importing gevent would load it in servers that do not use it."""
    return type(connection).__module__.startswith("gevent.") and not hasattr(connection, "getpeercert")


def _watch(connection: socket.socket, on_disconnect: Callable[[], None]) -> None:
    from gevent import spawn
    from gevent.socket import wait_read

    wait_read(connection.fileno())
    if _is_at_end(connection):
        spawn(on_disconnect)  # not here: it ends the request, which kills this greenlet


def _nothing() -> None:
    return
