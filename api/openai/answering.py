"""Functions that the routes under `/v1` share."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from api.current import caller
from api.jobs.request import fingerprint, idempotency_key
from api.schemas.strict import Strict
from common.errors import NotFound
from common.jobs.store import JobOptions
from common.owners.batches import Batch
from common.owners.files import StoredFile

F = TypeVar("F", Batch, StoredFile)


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
