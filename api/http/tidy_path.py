"""Makes a slash too many in a path harmless: `/slm/jobs/` and `//slm/jobs` are `/slm/jobs`.

Not by redirecting, as Flask would: many clients follow no redirect of a POST.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SLASHES = re.compile("/{2,}")


class TidyPath:
    """The application, which sees every path without doubled slashes and without one at the end."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        path = _SLASHES.sub("/", environ.get("PATH_INFO", "/"))
        environ["PATH_INFO"] = path.rstrip("/") or "/"
        return self._app(environ, start_response)
