"""Gives each request an id, and adds headers to every response."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from itertools import accumulate
from urllib.parse import quote

from flask import Flask, Response, g, request

from common.observation import context

# For responses that are not pages; pages set their own policy (`routes/pages.py`).
PROTECTION = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

MAX_IGNORED_CHARS = 2000  # of the names of ignored fields; nginx takes 4 KiB of header fields in all
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def register_hooks(app: Flask) -> None:
    """Register the hooks: request ids, and response headers with the id, the job, ignored fields, and protection."""
    app.before_request(_take_request_id)
    app.after_request(_add_headers)


def _take_request_id() -> None:
    """Use the id that the caller sent, if it is safe in headers and log lines; otherwise create one."""
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    context.add(request_id=g.request_id)


def _listed(names: Sequence[str]) -> str:
    """Return the names, and `...` in place of those that would make the header too long for a proxy."""
    ends = accumulate(len(name) + len(", ") for name in names)
    fitting = [name for name, end in zip(names, ends, strict=True) if end <= MAX_IGNORED_CHARS]
    return ", ".join(fitting if len(fitting) == len(names) else [*fitting, "..."])


def _add_headers(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    for name, value in PROTECTION.items():
        response.headers.setdefault(name, value)
    if job_id := g.get("job_id"):
        response.headers["X-Job-Id"] = job_id
        response.headers["Location"] = f"/slm/jobs/{job_id}"
    if model := g.get("model"):
        response.headers["X-Model"] = quote(model, safe="@/ ")  # a base model can have any name
    if ignored := g.get("ignored_fields"):
        response.headers["X-Ignored-Fields"] = _listed(ignored)
    if g.get("is_repeat"):
        response.headers["Idempotency-Replayed"] = "true"
    return response
