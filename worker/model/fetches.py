"""Fetches files of adapters on threads of their own, so that adapters that are here need not wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from common.errors import InternalError, SLMError

THREADS = 3  # that fetch at once; others wait

log = logging.getLogger(__name__)


class Fetches:
    """The fetches of a worker: each adapter's once for all that wait for it. Thread-safe.

    Args:
        is_here: whether an adapter's files are here; called often.
        fetch: fetches them; raises `SLMError` if it cannot.
        on_end: called after each fetch, on its thread, with the error if it failed.
    """

    def __init__(
        self,
        is_here: Callable[[str], bool],
        fetch: Callable[[str], None],
        on_end: Callable[[str, SLMError | None], None],
    ) -> None:
        self._is_here = is_here
        self._fetch = fetch
        self._on_end = on_end
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._free = threading.BoundedSemaphore(THREADS)

    def is_ready(self, adapter_id: str) -> bool:
        """Return whether the files are here; otherwise their fetch begins, unless it has begun."""
        with self._lock:
            if adapter_id in self._running:
                return False
            if self._is_here(adapter_id):
                return True
            self._running.add(adapter_id)
        threading.Thread(target=self._run, args=(adapter_id,), name="slm-fetch", daemon=True).start()
        return False

    def _run(self, adapter_id: str) -> None:
        with self._free:
            error = self._error(adapter_id)
        with self._lock:
            self._running.discard(adapter_id)
        self._on_end(adapter_id, error)

    def _error(self, adapter_id: str) -> SLMError | None:
        """A boundary: any error fails only the adapter's own requests."""
        try:
            self._fetch(adapter_id)
        except SLMError as err:
            log.error("adapter %s was not fetched: %s", adapter_id, err.message)
            return err
        except Exception as err:
            log.exception("adapter %s was not fetched", adapter_id)
            return InternalError(f"Fetching it failed ({type(err).__name__}); the worker's log has the details.")
        return None
