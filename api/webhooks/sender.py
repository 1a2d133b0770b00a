"""One POST to a stranger's URL: to a checked address, within a time, without following it anywhere."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from socket import SHUT_RDWR, create_connection, socket

from api.schemas.webhook_target import Target
from api.webhooks.addresses import is_public, resolve

TIMEOUT_S = 10.0


class DeliveryFailed(Exception):
    """The message did not arrive; the text says why. `is_final`: another attempt would fail alike."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


class Sender:
    """Posts messages.

    Args:
        allow_private: whether they may go to private addresses.
        timeout_s: for looking the host up, for connecting, and for everything after that.
    """

    def __init__(self, *, allow_private: bool, timeout_s: float = TIMEOUT_S) -> None:
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context()

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Return when the receiver has answered with 2xx; what else it says is not read.

        Raises:
            DeliveryFailed: anything else happened.
        """
        target = Target.parse(url)
        try:
            status = self._exchange(target, self._checked_addresses(target), headers, body)
        except TimeoutError as err:
            raise DeliveryFailed(f"no answer within {self._timeout_s:g} s") from err
        except (OSError, HTTPException) as err:
            raise DeliveryFailed(f"{type(err).__name__}: {err}") from err
        if not 200 <= status < 300:
            raise DeliveryFailed(f"answered with status {status}")

    def _checked_addresses(self, target: Target) -> list[str]:
        addresses = resolve(target.host, self._timeout_s)
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise DeliveryFailed(f"{target.host} has a private address", is_final=True)
        return addresses

    def _exchange(self, target: Target, addresses: list[str], headers: Mapping[str, str], body: bytes) -> int:
        """The answer's status."""
        with ExitStack() as stack:
            connected = stack.enter_context(self._connect(addresses, target.port))
            stack.enter_context(_cut_after(connected, self._timeout_s))
            connection = stack.enter_context(closing(HTTPConnection(target.host, target.port)))
            connection.sock = self._secured(connected, target)
            connection.request(
                "POST", target.path, body, {"Host": target.host_header, "Connection": "close", **headers}
            )
            return connection.getresponse().status

    def _connect(self, addresses: list[str], port: int) -> socket:
        """A connection to the first of the addresses that takes one."""
        deadline = time.monotonic() + self._timeout_s
        failure: OSError = TimeoutError()
        for address in addresses:
            if (left := deadline - time.monotonic()) <= 0:
                break
            try:
                return create_connection((address, port), timeout=left)
            except OSError as err:
                failure = err
        raise failure

    def _secured(self, connected: socket, target: Target) -> socket:
        return self._tls.wrap_socket(connected, server_hostname=target.host) if target.is_secure else connected


@contextmanager
def _cut_after(connected: socket, timeout_s: float) -> Iterator[None]:
    """End the connection at the end of the time, however slowly the other side goes on; then raises `TimeoutError`.

    A socket's own time-out begins anew with every byte.
    """
    is_late = threading.Event()

    def cut() -> None:
        is_late.set()
        with suppress(OSError):  # it has ended by itself
            handle.shutdown(SHUT_RDWR)

    with connected.dup() as handle:  # TLS takes the original over
        cutter = threading.Timer(timeout_s, cut)
        cutter.daemon = True
        cutter.start()
        try:
            yield
        except (OSError, HTTPException) as err:
            if not is_late.is_set():
                raise
            raise TimeoutError from err
        finally:
            cutter.cancel()
            cutter.join()
        if is_late.is_set():  # what was cut off can look like an answer
            raise TimeoutError
