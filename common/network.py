"""What an address that a server listens on means."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: that of this machine's loopback is the only one whose address needs no looking up
        return host == "localhost"
