"""Parses the URL of a webhook, once, so that the checked host is the one that is connected to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_URL_CHARS = 2048
URL_FORM = f"an http or https URL of at most {MAX_URL_CHARS} ASCII characters without a user name"

# The same as a regular expression for JSON Schema; it also matches invalid addresses in brackets.
_LABEL = "[A-Za-z0-9_-]{1,63}"
_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
URL_PATTERN = rf"^[Hh][Tt][Tt][Pp][Ss]?://({_LABEL}(\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(:{_PORT})?([/?#][!-~]*)?$"

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")  # a name, or an IP address without its brackets
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """An http or https URL. `path` includes the query."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """Parse a URL.

        Raises:
            ValueError: a webhook cannot be sent to this URL.
        """
        if len(url) > MAX_URL_CHARS or not _PRINTABLE.fullmatch(url):
            raise ValueError(url)
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or "@" in parts.netloc or not _HOST.fullmatch(parts.hostname or ""):
            raise ValueError(url)
        host = str(parts.hostname)
        host.encode("idna")  # labels that are empty or too long cannot be looked up
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        if port == 0:
            raise ValueError(url)
        query = f"?{parts.query}" if parts.query else ""
        return cls(parts.scheme, host, port, (parts.path or "/") + query)

    @property
    def is_secure(self) -> bool:
        """Whether the connection uses TLS."""
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        """The value of the request's Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"
