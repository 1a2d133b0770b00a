"""Keeps other sites' pages away from a server without keys.

Where everybody on this machine is let in, so is their browser, and with it whatever page it shows: a page may send
forms to 127.0.0.1, and with a name of its own that leads there (DNS rebinding) it may even read the answers. The
browser tells in `Origin` and `Host` where a page is from and by which name it came.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from common.network import is_loopback


def is_foreign_page(host: str, origin: str | None) -> bool:
    """Whether a request with these headers comes from the page of another site. `host` is empty where there is none."""
    try:
        name, from_site = urlsplit(f"//{host}").hostname, urlsplit(origin or "").netloc
    except ValueError:  # an address in brackets that is none
        return True
    if name is not None and not is_loopback(name):
        return True
    return origin is not None and from_site.lower() != host.lower()
