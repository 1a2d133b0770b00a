"""The function that the routes of files and batches share."""

from __future__ import annotations

from typing import TypeVar

from api.current import caller
from common.errors import NotFound
from common.owners.batches import Batch
from common.owners.files import StoredFile

F = TypeVar("F", Batch, StoredFile)


def own(found: F, what: str) -> F:
    """Return the file or batch if the caller may see it. Raises `NotFound` otherwise."""
    if not caller().may_see(found.owner):
        raise NotFound(f"There is no {what} {found.id[:60]!r}.", param=f"{what}_id")
    return found
