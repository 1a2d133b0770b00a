"""Checks the network addresses of untrusted URLs: only public ones, so that nobody reaches our network through us."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

MAX_LOOK_UPS = 256  # concurrent lookups: one for every delivery attempt

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")  # an IPv4 address in its last four bytes (RFC 6052)


def is_public(text: str) -> bool:
    """Return whether an IP address, or the IPv4 address that it embeds, belongs to the public internet."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address in _TRANSLATED:
            return is_public(str(IPv4Address(address.packed[-4:])))
        return address in _GLOBAL_UNICAST and address.is_global and address.sixtofour is None
    return address.is_global and not address.is_multicast


def literal(host: str) -> str | None:
    """Return the IP address if the host is written as one, in any form that resolvers accept; None for a name."""
    try:
        return _look_up(host, socket.AI_NUMERICHOST)[0]
    except socket.gaierror:
        return None


def resolve(host: str, timeout_s: float) -> list[str]:
    """Return the host's addresses.

    gevent looks up names in ten threads for the whole process. A few hosts with silent name servers would block them
    for everybody, including connections to Redis. So these lookups have their own threads.

    Raises:
        TimeoutError: the lookup took longer than `timeout_s`.
        OSError: the host cannot be looked up.
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
    """Look up a host in a system thread. An error is returned, because gevent would print a raised one."""
    from gevent.monkey import get_original

    try:
        return _addresses(get_original("socket", "getaddrinfo"), host)
    except OSError as err:
        return err


def _look_up(host: str, flags: int = 0) -> list[str]:
    return _addresses(socket.getaddrinfo, host, flags)


def _addresses(getaddrinfo: Callable[..., list[Any]], host: str, flags: int = 0) -> list[str]:
    return [str(entry[4][0]) for entry in getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)]
