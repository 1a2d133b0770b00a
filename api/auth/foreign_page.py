"""Rejects requests from other sites' pages on a server without keys.

If everybody on this machine may use the server, so may any page in their browser: a page can send forms to 127.0.0.1,
and if its own host name resolves to that address (DNS rebinding), it can even read the responses. The browser sends
the page's site in `Origin`, and the host name that it used in `Host`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from common.network import is_loopback


def is_foreign_page(host: str, origin: str | None) -> bool:
    """Return whether a request with these headers comes from another site's page. `host` is empty if not sent."""
    try:
        name, from_site = urlsplit(f"//{host}").hostname, urlsplit(origin or "").netloc
    except ValueError:  # an invalid address in brackets
        return True
    if name is not None and not is_loopback(name):
        return True
    return origin is not None and from_site.lower() != host.lower()
