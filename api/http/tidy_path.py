"""Removes superfluous slashes from paths: `/slm/jobs/` and `//slm/jobs` are served as `/slm/jobs`.

A redirect, as Flask would send it, does not work: many clients do not follow redirects of a POST.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SLASHES = re.compile("/{2,}")


class TidyPath:
    """The application, with every path stripped of doubled and trailing slashes."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        path = _SLASHES.sub("/", environ.get("PATH_INFO", "/"))
        environ["PATH_INFO"] = path.rstrip("/") or "/"
        return self._app(environ, start_response)
