"""Classifies the addresses that a server listens on."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name; only localhost is known to be a loopback address without a lookup
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class AllowedOrigins:
    """The web origins whose pages may call the API: `names` as browsers send them, `localhost` or `*`."""

    names: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.names)

    def name(self, origin: str) -> bool:
        """Return whether this origin is among them; `localhost` includes every port of this machine."""
        return origin in self.names or ("localhost" in self.names and _is_local(origin))

    def allow(self, origin: str) -> bool:
        """Return whether this origin is among them, or all are."""
        return "*" in self.names or self.name(origin)


def _is_local(origin: str) -> bool:
    try:
        name = urlsplit(origin).hostname
    except ValueError:  # an invalid address in brackets
        return False
    return name is not None and is_loopback(name)
