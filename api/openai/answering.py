"""What the routes under /v1 share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from flask import Response, request

from api.current import caller, services
from api.http.disconnect import watch_client
from api.jobs.request import fingerprint, idempotency_key
from api.jobs.sse import HEADERS
from api.openai.models import Catalogue
from api.schemas.strict import Strict
from common.errors import NotFound
from common.jobs.store import JobOptions
from common.owners.batches import Batch
from common.owners.files import StoredFile

F = TypeVar("F", Batch, StoredFile)


def catalogue() -> Catalogue:
    """The models served now."""
    return Catalogue(services().overview.workers())


def keyed(options: JobOptions, body: Strict, index: int = 0) -> JobOptions:
    """The options with the request's Idempotency-Key, if it has one; each of its jobs has a share of the key."""
    key = idempotency_key()
    if key is None:
        return options
    return replace(options, idempotency_key=f"{key}#{index}" if index else key, fingerprint=fingerprint(body))


def own(found: F, what: str) -> F:
    """The file or batch that was found. Raises `NotFound` if it is somebody else's."""
    if not caller().may_see(found.owner):
        raise NotFound(f"There is no {what} {found.id[:60]!r}.", param=f"{what}_id")
    return found


def stream_response(frames: Iterator[str], on_close: Callable[[], None]) -> Response:
    """An answer that streams the frames; `on_close` is called at its end, and at once when the client leaves."""
    response = Response(frames, mimetype="text/event-stream", headers=HEADERS)
    # Not in a generator's `finally`: one that was never begun is closed without running it.
    response.call_on_close(on_close)
    response.call_on_close(watch_client(request.environ, on_close))
    return response
