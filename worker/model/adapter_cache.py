"""Holds the adapters of a worker's model in memory: loaded at first use, and evicted when there are too many."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from common.errors import InternalError, SLMError
from worker.helper.given_up import GivenUp, IsGivenUp
from worker.helper.priority import give_way_in_this_thread
from worker.model.fetches import Fetches
from worker.model.pins import Pins
from worker.model.protocols import AdapterObserver, LoadedAdapter

RECHECK_S = 0.2  # how often a waiting thread checks whether its job was given up
RETRY_S = 10.0  # how long a failure is repeated without another try

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: SLMError
    until: float


class AdapterCache:
    """The adapters in memory. Its thread alone loads and evicts them, beside the engine and with low priority.

    An adapter is loaded once for all jobs that wait for it. If all adapters together are larger than `max_bytes`, those
    that no job uses and no alias pins are evicted, the least recently used first. Jobs never wait for memory: what they
    use may exceed `max_bytes`, and so may a single large adapter while it is the most recently used.

    Args:
        base: the bare base model, which is always there.
        load: loads an adapter by its id, and adds it to the engine; raises `SLMError` if it cannot.
        is_here, fetch: as in `Fetches`. An adapter is loaded when its files are here.
        max_bytes: the budget (`SLM_ADAPTER_MEMORY`).
        observer: told of loads and evictions.
        clock: returns seconds; monotonic.
    """

    def __init__(
        self,
        base: LoadedAdapter,
        load: Callable[[str], LoadedAdapter],
        *,
        max_bytes: int,
        observer: AdapterObserver,
        is_here: Callable[[str], bool] = lambda _: True,
        fetch: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base
        self._load = load
        self._max_bytes = max_bytes
        self._observer = observer
        self._clock = clock
        self._fetches = Fetches(is_here, fetch, self._note_fetch)
        self._changed = threading.Condition()
        self._loaded: OrderedDict[str, LoadedAdapter] = OrderedDict()  # the most recently used last
        self._users: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()  # jobs that wait for an adapter, in the order of their first
        self._failures: dict[str, _Failure] = {}
        self._pins = Pins()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="slm-adapters", daemon=True)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the adapters in memory, sorted."""
        with self._changed:
            return tuple(sorted(self._loaded))

    @property
    def num_bytes(self) -> int:
        """The memory that they take."""
        with self._changed:
            return self._total()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and free the adapters. Jobs that wait for one get `GivenUp`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        for adapter in self._loaded.values():
            adapter.close()

    @contextmanager
    def acquire(self, adapter_id: str, is_given_up: IsGivenUp, on_wait: Callable[[], None]) -> Iterator[LoadedAdapter]:
        """Acquire an adapter for the duration of a `with` block; it is loaded first if necessary.

        Args:
            adapter_id: the id of its version; '' for the bare base model.
            is_given_up: whether the job was given up.
            on_wait: called once if the adapter has to be loaded first.

        Raises:
            GivenUp: `is_given_up` became true while waiting, or the model is being unloaded.
            SLMError: the adapter cannot be loaded. Another try follows at the first use after `RETRY_S`.
        """
        if not adapter_id:
            yield self._base
            return
        adapter = self._take(adapter_id)
        if adapter is None:
            on_wait()
            adapter = self._wait_for(adapter_id, is_given_up)
        try:
            yield adapter
        finally:
            with self._changed:
                self._users -= Counter([adapter_id])
                self._changed.notify_all()

    def pin(self, adapter_ids: Sequence[str]) -> None:
        """Load these adapters and keep them, in this order as far as the budget goes; free others as needed.

        One that cannot be loaded is tried again after a while. Adapters that no longer need to be kept are not evicted
        before there is something else to keep.
        """
        with self._changed:
            if self._pins.replace(adapter_ids):
                self._changed.notify_all()

    def wait_for_pins(self, is_given_up: IsGivenUp) -> None:
        """Wait until each pinned adapter was loaded, or has failed, or does not fit the budget."""
        while not is_given_up():
            with self._changed:
                if self._closing or self._changed.wait_for(lambda: not self._pins.ahead, RECHECK_S):
                    return

    # -- the jobs' threads ---------------------------------------------------------------------------------------------

    def _take(self, adapter_id: str) -> LoadedAdapter | None:
        """Return the adapter for one more user if it is loaded. Raises the error if it failed recently."""
        with self._changed:
            if (adapter := self._loaded.get(adapter_id)) is not None:
                self._loaded.move_to_end(adapter_id)
                self._users[adapter_id] += 1
            elif (failure := self._failure_of(adapter_id)) is not None:
                raise SLMError.from_dict(failure.error.to_dict())
            return adapter

    def _wait_for(self, adapter_id: str, is_given_up: IsGivenUp) -> LoadedAdapter:
        with self._changed:
            self._waiting[adapter_id] += 1
            self._changed.notify_all()
            try:
                while not (is_given_up() or self._closing):
                    if (adapter := self._take(adapter_id)) is not None:
                        return adapter
                    self._changed.wait(RECHECK_S)
            finally:
                self._waiting -= Counter([adapter_id])
        raise GivenUp

    def _failure_of(self, adapter_id: str) -> _Failure | None:
        failure = self._failures.get(adapter_id)
        return failure if failure is not None and self._clock() < failure.until else None

    # -- the cache's thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        give_way_in_this_thread()
        while (action := self._next_action()) is not None:
            action()

    def _next_action(self) -> Callable[[], None] | None:
        """Wait for something to do: make room, then load for jobs, then load pinned adapters. None: end."""
        with self._changed:
            while not self._closing:
                if (victim := self._victim()) is not None:
                    return lambda: self._evict(victim)
                if (wanted := self._first_wanted()) is not None:
                    return lambda: self._load_and_note(wanted)
                if (pin := self._next_pin()) is not None:
                    return lambda: self._load_pin(pin)
                self._changed.wait(RECHECK_S if self._pins.awaits_retry else None)
        return None

    def _first_wanted(self) -> str | None:
        wanted = [one for one in self._waiting if one not in self._loaded and self._failure_of(one) is None]
        return next(filter(self._fetches.is_ready, wanted), None)

    def _next_pin(self) -> str | None:
        pin = self._pins.next(self._clock())
        if pin is None or pin in self._loaded or self._failure_of(pin) or self._fetches.is_ready(pin):
            return pin
        return None

    def _victim(self) -> str | None:
        """Return the adapter to evict; None if there is room, or no adapter that may be evicted."""
        if self._total() <= self._max_bytes:
            return None
        kept = self._pins.kept.union(self._pins.ahead, self._users, self._waiting, [next(reversed(self._loaded))])
        return next((one for one in self._loaded if one not in kept), None)

    def _evict(self, adapter_id: str) -> None:
        with self._changed:
            if self._users[adapter_id] or self._waiting[adapter_id]:
                return
            adapter = self._loaded.pop(adapter_id)
        adapter.close()
        self._observer.note_adapter_eviction()
        log.info("adapter %s was evicted", adapter_id)

    def _load_and_note(self, adapter_id: str) -> None:
        begin = self._clock()
        adapter = self._loaded_or_failure(adapter_id)
        seconds = self._clock() - begin
        self._observer.note_adapter_load(seconds, succeeded=isinstance(adapter, LoadedAdapter))
        with self._changed:
            if isinstance(adapter, LoadedAdapter):
                self._loaded[adapter_id] = adapter
                log.info("adapter %s was loaded in %.2f s, %.1f MB", adapter_id, seconds, adapter.num_bytes / 1e6)
            else:
                self._note_failure(adapter_id, adapter)
            self._changed.notify_all()

    def _loaded_or_failure(self, adapter_id: str) -> LoadedAdapter | SLMError:
        """A boundary: any error in loading fails only the adapter's own requests."""
        try:
            return self._load(adapter_id)
        except SLMError as err:
            log.error("adapter %s was not loaded: %s", adapter_id, err.message)
            return err
        except Exception as err:
            log.exception("adapter %s was not loaded", adapter_id)
            return InternalError(
                f"Loading the adapter failed ({type(err).__name__}); the worker's log has the details."
            )

    def _note_fetch(self, adapter_id: str, error: SLMError | None) -> None:
        with self._changed:
            if error is not None:
                self._note_failure(adapter_id, error)
            self._changed.notify_all()

    def _note_failure(self, adapter_id: str, error: SLMError) -> None:
        now = self._clock()
        self._failures = {one: failure for one, failure in self._failures.items() if now < failure.until}
        self._failures[adapter_id] = _Failure(error, now + RETRY_S)

    def _load_pin(self, adapter_id: str) -> None:
        if adapter_id not in self._loaded and self._failure_of(adapter_id) is None:
            self._load_and_note(adapter_id)
        with self._changed:
            if self._pins.note(adapter_id, self._clock(), is_loaded=adapter_id in self._loaded):
                self._keep(adapter_id)
                self._changed.notify_all()

    def _keep(self, adapter_id: str) -> None:
        if adapter_id not in self._loaded:
            return
        if self._total(self._pins.kept | {adapter_id}) > self._max_bytes:
            log.warning("adapter %s is not kept in memory: SLM_ADAPTER_MEMORY is too small for all aliases", adapter_id)
            return
        self._pins.kept.add(adapter_id)

    def _total(self, adapter_ids: set[str] | None = None) -> int:
        wanted = self._loaded if adapter_ids is None else adapter_ids
        return sum(adapter.num_bytes for one, adapter in self._loaded.items() if one in wanted)
