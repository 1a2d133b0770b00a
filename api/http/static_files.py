"""Sends the files of the page and of the reference, compressed for clients that accept it."""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

from flask import Response, request, send_from_directory
from werkzeug.exceptions import RequestedRangeNotSatisfiable

TEXTS = ("text/", "application/json", "image/svg+xml")  # other types, such as fonts, are compressed already
SMALLEST = 1000  # bytes; smaller files fit into one packet anyway


def send_file_of(folder: str, name: str, max_age: int | None) -> Response:
    """Send a file; a part of it, or only that it has not changed, if the request asks for that.

    Raises:
        NotFound: the folder has no such file.
        RequestedRangeNotSatisfiable: the file has no such part.
    """
    response = send_from_directory(folder, name, max_age=max_age, conditional=False)
    size = response.content_length or 0
    if (response.mimetype or "").startswith(TEXTS) and size >= SMALLEST:
        response.vary.add("Accept-Encoding")
        if request.accept_encodings.quality("gzip") and "Range" not in request.headers:
            size = _compress(response, Path(folder) / name)
    try:
        response.make_conditional(request.environ, accept_ranges=True, complete_length=size)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise
    return response


def _compress(response: Response, file: Path) -> int:
    """Replace the content by its compressed form, which has its own ETag; return its size."""
    content = _compressed(file, file.stat().st_mtime_ns)
    response.close()
    response.direct_passthrough = False
    response.set_data(content)
    response.headers["Content-Encoding"] = "gzip"
    response.set_etag(f"{response.get_etag()[0]}-gzip")
    return len(content)


@lru_cache(maxsize=256)
def _compressed(file: Path, _mtime_ns: int) -> bytes:
    return gzip.compress(file.read_bytes(), mtime=0)
