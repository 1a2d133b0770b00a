"""Noticing at once that a client has gone.

A WSGI server learns of it at its next write only. A stream that is silent, or a caller that waits, would keep its
subscription until then. gunicorn hands the connection to the application; a greenlet watches it for its end.
"""

from __future__ import annotations

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


def _is_watchable(connection: object) -> bool:
    """Importing gevent is free here: where its socket is in use, it is loaded."""
    return type(connection).__module__.startswith("gevent.") and not hasattr(connection, "getpeercert")


def _watch(connection: socket.socket, on_gone: Callable[[], None]) -> None:
    from gevent import spawn
    from gevent.socket import wait_read

    wait_read(connection.fileno())
    try:
        is_gone = connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        is_gone = True
    if is_gone:  # otherwise it has sent its next request already, and its end cannot be seen behind it
        spawn(on_gone)  # not here: the request ends by it, and with the request this watch


def _nothing() -> None:
    return
