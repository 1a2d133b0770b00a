"""A link between processes that can be slow, cut, or lead elsewhere."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

LOOPBACK = "127.0.0.1"


class Link:
    """Forwards connections to a loopback port; `is_cut` and `delay_s` can be changed while connections are open.

    Args:
        target: the port.
        host: the address at which it listens.
    """

    def __init__(self, target: int, host: str = LOOPBACK) -> None:
        self.is_cut = False  # everything vanishes; connections stay open
        self.delay_s = 0.0  # of each chunk
        self._target = target
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def lead_to(self, target: int) -> None:
        """Close all connections; new ones lead to another port."""
        self._target = target
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection((LOOPBACK, self._target))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay_s)
                if not self.is_cut:
                    target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
