"""The adapters that a worker keeps in memory because aliases point to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

FIRST_RETRY_S, LONGEST_RETRY_S = 10.0, 300.0


class Pins:
    """The pinned adapters: which of them are in memory, which are to be loaded, and when failed ones are tried again.

    Times are in seconds on the caller's clock. Not thread-safe.
    """

    def __init__(self) -> None:
        self.kept: set[str] = set()  # in memory, within the budget
        self._wanted: tuple[str, ...] = ()
        self._ahead: deque[str] = deque()  # to be loaded, in this order
        self._delays: dict[str, float] = {}  # of those whose last load has failed
        self._retries: dict[str, float] = {}  # when to try these again

    def replace(self, adapter_ids: Sequence[str]) -> bool:
        """Pin these adapters and no others; return False if they already are pinned in this order."""
        wanted = tuple(dict.fromkeys(adapter_ids))
        if self._wanted == wanted:
            return False
        self._wanted, self._ahead, self.kept = wanted, deque(wanted), set()
        self._delays, self._retries = {}, {}
        return True

    @property
    def ahead(self) -> Sequence[str]:
        """Those that are to be loaded."""
        return self._ahead

    @property
    def awaits_retry(self) -> bool:
        """Whether any will be tried again."""
        return bool(self._retries)

    def next(self, now: float) -> str | None:
        """Return the next one to load; it stays the next until `note`."""
        for due in [one for one, at in self._retries.items() if at <= now]:
            del self._retries[due]
            self._ahead.append(due)
        return self._ahead[0] if self._ahead else None

    def note(self, adapter_id: str, now: float, *, is_loaded: bool) -> bool:
        """Note the end of a load; return False if the adapter is no longer the next: others are pinned by now."""
        if not self._ahead or self._ahead[0] != adapter_id:
            return False
        self._ahead.popleft()
        if is_loaded:
            self._delays.pop(adapter_id, None)
        else:
            delay = min(2 * self._delays[adapter_id], LONGEST_RETRY_S) if adapter_id in self._delays else FIRST_RETRY_S
            self._delays[adapter_id], self._retries[adapter_id] = delay, now + delay
        return True
