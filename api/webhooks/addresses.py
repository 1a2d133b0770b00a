"""Which network addresses a stranger's URL may lead to: public ones, so that nobody reaches our own network by us."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

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


def resolve(host: str) -> list[str]:
    """The host's addresses.

    Raises:
        OSError: it cannot be looked up.
    """
    return _look_up(host)


def _look_up(host: str, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return [str(entry[4][0]) for entry in found]
