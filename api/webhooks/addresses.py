"""Which network addresses a stranger's URL may lead to: public ones, so that nobody reaches our own network by us."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

MAX_LOOK_UPS = 256  # at once: one for every attempt to deliver

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")  # an IPv4 address in its last four bytes (RFC 6052)


def is_public(text: str) -> bool:
    """Whether an IP address belongs to the public internet, also where it carries an IPv4 address inside."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address in _TRANSLATED:
            return is_public(str(IPv4Address(address.packed[-4:])))
        return address in _GLOBAL_UNICAST and address.is_global and address.sixtofour is None
    return address.is_global and not address.is_multicast


def literal(host: str) -> str | None:
    """The IP address that a host is written as, in any of the forms that resolvers take; None for a name."""
    try:
        return _look_up(host, socket.AI_NUMERICHOST)[0]
    except socket.gaierror:
        return None


def resolve(host: str, timeout_s: float) -> list[str]:
    """The host's addresses.

    gevent looks names up in ten threads, for the whole process: a few hosts whose name server never answers would keep
    them from everybody, the way to Redis included. So these look-ups have threads of their own.

    Raises:
        TimeoutError: that took longer than `timeout_s`.
        OSError: it cannot be looked up.
    """
    if not socket.socket.__module__.startswith("gevent."):
        return _look_up(host)
    from gevent import Timeout

    with Timeout(timeout_s, TimeoutError()):
        found = _threads().apply(_look_up_in_thread, (host,))
    if isinstance(found, OSError):
        raise found
    return list(found)


@cache
def _threads() -> Any:
    from gevent.threadpool import ThreadPool

    return ThreadPool(MAX_LOOK_UPS)


def _look_up_in_thread(host: str) -> list[str] | OSError:
    """As `_look_up`, in a thread of the system. An error is returned: gevent would print what is raised there."""
    from gevent.monkey import get_original

    try:
        return _addresses(get_original("socket", "getaddrinfo"), host)
    except OSError as err:
        return err


def _look_up(host: str, flags: int = 0) -> list[str]:
    return _addresses(socket.getaddrinfo, host, flags)


def _addresses(getaddrinfo: Callable[..., list[Any]], host: str, flags: int = 0) -> list[str]:
    return [str(entry[4][0]) for entry in getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)]
