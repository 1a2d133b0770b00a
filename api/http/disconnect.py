"""Noticing at once that a client has gone.

A WSGI server learns of it at its next write only. A stream that is silent, or a caller that waits, would keep its
subscription until then. gunicorn hands the connection to the application; a greenlet watches it for its end.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Mapping
from typing import Any


def watch_client(environ: Mapping[str, Any], on_gone: Callable[[], None]) -> Callable[[], None]:
    """Call `on_gone` when the client closes its connection; returns what ends the watch.

    Does nothing where the connection cannot be watched: under another server than gunicorn with gevent, and behind
    TLS that gunicorn itself ends.
    """
    connection = environ.get("gunicorn.socket")
    if not _is_watchable(connection):
        return _nothing
    from gevent import spawn

    watcher = spawn(_watch, connection, on_gone)
    return watcher.kill  # type: ignore[no-any-return]


def has_gone(environ: Mapping[str, Any]) -> bool:
    """Whether the client has closed its connection already; False where that cannot be seen."""
    connection: Any = environ.get("gunicorn.socket")
    return _is_watchable(connection) and _is_readable(connection) and _is_at_end(connection)


def _is_readable(connection: Any) -> bool:
    """Without waiting, and without letting another greenlet run."""
    from gevent.monkey import get_original

    poll = get_original("select", "poll")()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _is_at_end(connection: socket.socket) -> bool:
    """Of one that is readable. If its next request is there, the end behind it cannot be seen."""
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def _is_watchable(connection: object) -> bool:
    """Importing gevent is free here: where its socket is in use, it is loaded."""
    return type(connection).__module__.startswith("gevent.") and not hasattr(connection, "getpeercert")


def _watch(connection: socket.socket, on_gone: Callable[[], None]) -> None:
    from gevent import spawn
    from gevent.socket import wait_read

    wait_read(connection.fileno())
    if _is_at_end(connection):
        spawn(on_gone)  # not here: the request ends by it, and with the request this watch


def _nothing() -> None:
    return
