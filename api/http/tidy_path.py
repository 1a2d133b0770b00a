"""Tidies paths: `/slm/jobs/` and `//slm/jobs` are served as `/slm/jobs`, and OpenAI's paths without `/v1` or with two.

Whether a base URL ends with `/v1` differs from client to client, and many people get it wrong. A redirect, as Flask
would send it, does not work: many clients do not follow redirects of a POST.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SLASHES = re.compile("/{2,}")
_OPENAI = re.compile(
    "^/(?:v1/v1/|(?=(?:chat/completions|completions|embeddings|models|responses|messages|files|batches|fine_tuning/jobs"
    "|conversations)(?:/|$)))"
)


class TidyPath:
    """The application, with tidied paths."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        environ["PATH_INFO"] = tidy(environ.get("PATH_INFO", "/"))
        return self._app(environ, start_response)


def tidy(path: str) -> str:
    """Return the path without doubled and trailing slashes; OpenAI's begins with one `/v1`."""
    return _OPENAI.sub("/v1/", _SLASHES.sub("/", path)).rstrip("/") or "/"
