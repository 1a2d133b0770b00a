"""Functions that the routes under `/v1` share."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from api.current import caller, note_ignored
from api.http.request_body import json_text
from api.jobs.request import fingerprint, idempotency_key
from api.schemas.ignored import ignored_in
from api.schemas.json_object import json_object
from api.schemas.parsing import OPENAI, parse
from api.schemas.strict import Strict
from common.errors import NotFound
from common.jobs.store import JobOptions
from common.owners.batches import Batch
from common.owners.files import StoredFile

F = TypeVar("F", Batch, StoredFile)
B = TypeVar("B", bound=Strict)


def read_body(schema: type[B]) -> B:
    """Parse the body of the current request. Raises like `json_text` and `parse`."""
    body = parse(schema, json_object(json_text()), OPENAI)
    note_ignored(ignored_in(body))
    return body


def keyed(options: JobOptions, body: Strict, index: int = 0) -> JobOptions:
    """Return the options with the request's Idempotency-Key, if any; each of its jobs has its own key made from it."""
    key = idempotency_key()
    if key is None:
        return options
    return replace(options, idempotency_key=f"{key}#{index}" if index else key, fingerprint=fingerprint(body))


def own(found: F, what: str) -> F:
    """Return the file or batch if the caller may see it. Raises `NotFound` otherwise."""
    if not caller().may_see(found.owner):
        raise NotFound(f"There is no {what} {found.id[:60]!r}.", param=f"{what}_id")
    return found
