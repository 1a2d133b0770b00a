"""Deletes the files of adapters that nobody needs any more."""

from __future__ import annotations

from common.adapters.registry import AdapterRegistry
from common.adapters.store import AdapterStore


def tidy(store: AdapterStore, registry: AdapterRegistry) -> None:
    """Delete the files of adapters that were deleted, and what killed processes left behind.

    Raises:
        OSError: the folder cannot be read.
        redis.exceptions.RedisError: Redis cannot be reached.
    """
    if not (store.ids() & registry.deleted_ids() or store.has_leftovers()):
        return
    with store.locked():
        for adapter_id in store.ids() & registry.deleted_ids():  # it may have been published again
            store.remove(adapter_id)
        store.tidy()
