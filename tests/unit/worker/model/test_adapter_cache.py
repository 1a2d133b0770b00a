from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from common.errors import InternalError, ModelUnavailable, SLMError
from tests.processes import wait_for
from worker.helper.given_up import GivenUp, never
from worker.model.adapter_cache import RETRY_S, AdapterCache
from worker.model.pins import FIRST_RETRY_S
from worker.model.protocols import LoadedAdapter

SIZES = {"small": 10, "other": 10, "third": 10, "large": 45, "huge": 500}
BUDGET = 50


def ignore() -> None:
    pass


class Disk:
    """The adapters on disk, and what the cache did with them."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.in_memory: set[str] = set()
        self.errors: dict[str, Exception] = {}
        self.gate: threading.Event | None = None
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self.texts: Any = None

    def load(self, adapter_id: str) -> LoadedAdapter:
        self.loads.append(adapter_id)
        if self.gate is not None:
            assert self.gate.wait(60)
        if adapter_id in self.errors:
            raise self.errors[adapter_id]
        assert adapter_id not in self.in_memory, "it is loaded already"
        self.in_memory.add(adapter_id)
        return self.adapter(adapter_id, lambda: self.in_memory.remove(adapter_id))

    def adapter(self, adapter_id: str, close: Callable[[], None]) -> LoadedAdapter:
        return LoadedAdapter(adapter_id, self.texts, self.texts, SIZES.get(adapter_id, 10), close)

    def note_adapter_load(self, seconds: float, *, succeeded: bool) -> None:
        assert seconds >= 0
        self.counts["loads" if succeeded else "failures"] += 1

    def note_adapter_eviction(self) -> None:
        self.counts["evictions"] += 1


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def cache(disk: Disk) -> Iterator[AdapterCache]:
    base = disk.adapter("base", ignore)
    cache = AdapterCache(base, disk.load, max_bytes=BUDGET, observer=disk, clock=lambda: disk.now)
    cache.start()
    yield cache
    if disk.gate is not None:
        disk.gate.set()
    cache.close()
    assert not disk.in_memory


def use(cache: AdapterCache, adapter_id: str) -> str:
    with cache.acquire(adapter_id, never, ignore) as adapter:
        return adapter.id


def until(what: str, look: Callable[[], object]) -> None:
    wait_for(what, lambda: look() or None, timeout_s=60)


def test_the_bare_base_is_always_there(cache: AdapterCache, disk: Disk) -> None:
    assert use(cache, "") == "base"
    assert disk.loads == []


def test_an_adapter_is_read_at_its_first_use_only(cache: AdapterCache, disk: Disk) -> None:
    waits: list[str] = []
    for _ in range(3):
        with cache.acquire("small", never, lambda: waits.append("loading")) as adapter:
            assert adapter.id == "small"

    assert (disk.loads, waits, cache.ids, cache.num_bytes) == (["small"], ["loading"], ("small",), 10)


def test_many_jobs_that_ask_at_once_share_one_load(cache: AdapterCache, disk: Disk) -> None:
    disk.gate = threading.Event()
    with ThreadPoolExecutor(16) as pool:
        found = [pool.submit(use, cache, "small") for _ in range(16)]
        until("the load to begin", lambda: disk.loads)
        disk.gate.set()
        assert [one.result(60) for one in found] == ["small"] * 16

    assert disk.loads == ["small"]


def test_above_the_budget_the_least_recently_used_is_evicted(cache: AdapterCache, disk: Disk) -> None:
    for name in ("small", "other", "third", "small"):
        use(cache, name)
    use(cache, "large")

    until("the eviction", lambda: cache.num_bytes <= BUDGET)
    assert cache.ids == ("large",)
    assert disk.in_memory == {"large"}
    assert disk.counts == {"loads": 4, "evictions": 3}
    for name in ("third", "other"):
        use(cache, name)
    until("the eviction", lambda: cache.ids == ("other", "third"))


def test_what_is_in_use_is_never_evicted_even_if_it_exceeds_the_budget(cache: AdapterCache, disk: Disk) -> None:
    with cache.acquire("large", never, ignore), cache.acquire("huge", never, ignore):
        use(cache, "small")
        use(cache, "other")
        until("the idle ones to go", lambda: cache.ids == ("huge", "large", "other"))
        assert cache.num_bytes > 10 * BUDGET
    until("the budget to be kept", lambda: cache.num_bytes <= BUDGET)


def test_an_adapter_larger_than_the_budget_stays_until_another_is_used(cache: AdapterCache, disk: Disk) -> None:
    for _ in range(3):
        use(cache, "huge")
    assert disk.loads == ["huge"]

    use(cache, "small")
    until("the large one to go", lambda: cache.ids == ("small",))


def test_a_loaded_adapter_is_not_evicted_before_its_job_takes_it(cache: AdapterCache, disk: Disk) -> None:
    disk.gate = threading.Event()
    names = [f"wanted-{number}" for number in range(12)]  # more than twice the budget
    with ThreadPoolExecutor(12) as pool:
        found = [pool.submit(use, cache, name) for name in names]
        until("the first load to begin", lambda: disk.loads)
        disk.gate.set()
        assert [one.result(60) for one in found] == names

    assert sorted(disk.loads) == sorted(names), "each was loaded once"


def test_a_broken_adapter_fails_its_own_jobs_and_is_tried_again_later(cache: AdapterCache, disk: Disk) -> None:
    disk.errors["broken"] = ModelUnavailable("its file is damaged")
    for _ in range(5):
        with pytest.raises(ModelUnavailable, match="its file is damaged"):
            use(cache, "broken")
        assert use(cache, "small") == "small"
    assert disk.loads == ["broken", "small"]

    del disk.errors["broken"]
    disk.now += RETRY_S
    assert use(cache, "broken") == "broken"
    assert disk.counts == {"loads": 2, "failures": 1}


def test_an_unexpected_error_does_not_end_the_cache(cache: AdapterCache, disk: Disk) -> None:
    disk.errors["broken"] = RuntimeError("secret details")

    with pytest.raises(InternalError, match=r"RuntimeError\); the worker's log") as caught:
        use(cache, "broken")

    assert "secret" not in caught.value.message
    assert use(cache, "small") == "small"


def test_a_job_that_is_given_up_stops_waiting(cache: AdapterCache, disk: Disk) -> None:
    disk.gate = threading.Event()
    is_given_up = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(use, cache, "small")
        until("the load to begin", lambda: disk.loads)

        def use_until_given_up() -> None:
            with cache.acquire("other", is_given_up.is_set, ignore):
                pass

        given_up = pool.submit(use_until_given_up)
        is_given_up.set()
        with pytest.raises(GivenUp):
            given_up.result(60)
        disk.gate.set()
        assert waiting.result(60) == "small"

    assert disk.loads == ["small"], "nobody wants the other one any more"


def test_jobs_that_wait_while_the_model_is_unloaded_are_given_up(disk: Disk) -> None:
    disk.gate = threading.Event()
    cache = AdapterCache(disk.adapter("base", ignore), disk.load, max_bytes=BUDGET, observer=disk)
    cache.start()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(use, cache, "other")
        until("the load to begin", lambda: disk.loads)
        closing = pool.submit(cache.close)
        with pytest.raises(GivenUp):
            waiting.result(60)
        disk.gate.set()
        closing.result(60)

    assert not disk.in_memory


# Pinned adapters


def pinned(cache: AdapterCache, *names: str) -> None:
    cache.pin(names)
    cache.wait_for_pins(never)


def test_pinned_adapters_are_loaded_in_order_and_stay(cache: AdapterCache, disk: Disk) -> None:
    pinned(cache, "small", "other")
    assert disk.loads == ["small", "other"]

    use(cache, "large")
    use(cache, "third")

    until("the others to go", lambda: cache.ids == ("other", "small", "third"))
    assert use(cache, "small") == "small"
    assert disk.loads == ["small", "other", "large", "third"]


def test_pins_go_as_far_as_the_budget_and_the_first_counts_most(cache: AdapterCache, disk: Disk) -> None:
    pinned(cache, "small", "large", "other")
    use(cache, "third")

    until("the one that does not fit to go", lambda: "large" not in cache.ids)
    assert {"small", "other"} <= set(cache.ids)
    pinned(cache, "large", "small")
    use(cache, "other")
    until("the others to go", lambda: not {"small", "third"} & set(cache.ids))
    assert "large" in cache.ids


def test_a_broken_pin_delays_nothing(cache: AdapterCache, disk: Disk) -> None:
    disk.errors["broken"] = ModelUnavailable("damaged")

    pinned(cache, "broken", "small")

    assert cache.ids == ("small",)
    pinned(cache, "broken", "small")
    assert disk.loads == ["broken", "small"], "the same pins are not tried again by themselves"


def test_jobs_come_before_pins(cache: AdapterCache, disk: Disk) -> None:
    disk.gate = threading.Event()
    cache.pin(["small", "other"])
    until("the first load to begin", lambda: disk.loads)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(use, cache, "third")
        until("the job to wait", lambda: cache._waiting)
        disk.gate.set()
        waiting.result(60)
    cache.wait_for_pins(never)

    assert disk.loads == ["small", "third", "other"]


def test_waiting_for_pins_ends_when_it_is_given_up(cache: AdapterCache, disk: Disk) -> None:
    disk.gate = threading.Event()
    cache.pin(["small"])

    cache.wait_for_pins(lambda: bool(disk.loads))


def test_random_uses_never_lose_an_adapter_in_use(disk: Disk, cache: AdapterCache) -> None:
    failures: list[SLMError | AssertionError] = []

    def work(seed: int) -> None:
        for step in range(60):
            name = f"adapter-{(seed * 7 + step * step) % 12}"
            with cache.acquire(name, never, ignore) as adapter:
                if adapter.id != name or name not in disk.in_memory:
                    failures.append(AssertionError(name))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    assert not failures
    until("the budget to be kept", lambda: cache.num_bytes <= BUDGET)
    assert disk.counts["evictions"] > 0


def test_a_pin_that_could_not_be_loaded_is_tried_again(cache: AdapterCache, disk: Disk) -> None:
    disk.errors["small"] = ModelUnavailable("The disk is away.")
    cache.pin(["small", "other"])
    cache.wait_for_pins(never)
    assert cache.ids == ("other",)

    disk.now = FIRST_RETRY_S + 1
    until("the second try", lambda: disk.loads.count("small") == 2)
    del disk.errors["small"]
    time.sleep(0.5)
    assert disk.loads.count("small") == 2, "each further pause is longer"

    disk.now += 2 * FIRST_RETRY_S + 1
    until("the third try", lambda: cache.ids == ("other", "small"))
    use(cache, "large")
    assert cache.ids == ("large", "other", "small"), "it is kept from now on"


def test_an_adapter_that_must_be_fetched_does_not_delay_others(disk: Disk) -> None:
    here, gate, fetched = {"other"}, threading.Event(), list[str]()

    def fetch(adapter_id: str) -> None:
        fetched.append(adapter_id)
        assert gate.wait(60)
        here.add(adapter_id)

    cache = AdapterCache(
        disk.adapter("base", ignore), disk.load, max_bytes=BUDGET, observer=disk, is_here=here.__contains__, fetch=fetch
    )
    cache.start()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(use, cache, "small") for _ in range(3)]
        until("the fetch to begin", lambda: fetched)
        assert use(cache, "other") == "other"
        gate.set()
        assert [one.result(60) for one in waiting] == ["small"] * 3
    assert fetched == ["small"]
    cache.close()


def test_a_fetch_that_fails_fails_only_its_own_requests(disk: Disk) -> None:
    def fetch(adapter_id: str) -> None:
        raise ModelUnavailable(f"{adapter_id} is nowhere.") if adapter_id == "small" else OSError("The disk is full.")

    cache = AdapterCache(
        disk.adapter("base", ignore), disk.load, max_bytes=BUDGET, observer=disk, is_here="third".__eq__, fetch=fetch
    )
    cache.start()
    cache.pin(["small", "third"])
    cache.wait_for_pins(never)
    for adapter_id, words in (("small", "small is nowhere"), ("other", r"Fetching it failed \(OSError\)")):
        with pytest.raises(SLMError, match=words):
            use(cache, adapter_id)
    assert use(cache, "third") == "third"
    cache.close()
