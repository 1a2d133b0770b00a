"""Posts a message to an untrusted URL: to a checked address, within a time limit, without following redirects."""

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
    """The message did not arrive; the text says why. `is_final`: another attempt would fail in the same way."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


class Sender:
    """Posts messages.

    Args:
        allow_private: whether messages may be sent to private addresses.
        timeout_s: time limit for the lookup, for connecting, and for the rest, each.
    """

    def __init__(self, *, allow_private: bool, timeout_s: float = TIMEOUT_S) -> None:
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context()

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Send a message; return when the receiver has responded with 2xx. The body of the response is not read.

        Raises:
            DeliveryFailed: the message could not be sent, or got another response.
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
        """Send the message; return the status of the response."""
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
        """Connect to the first of the addresses that accepts."""
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
    """Close the connection after the time limit, even if the other side still sends, and raise `TimeoutError`.

    A socket's own timeout restarts with every byte.
    """
    is_late = threading.Event()

    def cut() -> None:
        is_late.set()
        with suppress(OSError):  # it has ended already
            handle.shutdown(SHUT_RDWR)

    with connected.dup() as handle:  # TLS takes over the original
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
        if is_late.is_set():  # a truncated response can look complete
            raise TimeoutError
