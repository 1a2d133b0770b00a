from __future__ import annotations

import pytest

from worker.engine.kv_cache.block_pool import BlockPool


def make_pool(total: int = 3, max_cached: int = 3) -> tuple[BlockPool, list[int]]:
    evicted: list[int] = []
    return BlockPool(total, max_cached=max_cached, on_evict=evicted.append), evicted


def test_the_lowest_free_block_is_taken_first() -> None:
    pool, _ = make_pool()
    assert [pool.allocate() for _ in range(3)] == [0, 1, 2]
    pool.release(2)
    pool.release(0)

    assert pool.allocate() == 0
    assert pool.num_available == 1


def test_a_block_is_free_when_its_last_user_releases_it() -> None:
    pool, _ = make_pool(total=1)
    block = pool.allocate()
    pool.share(block)
    pool.release(block)
    assert pool.num_available == 0
    pool.release(block)
    assert pool.num_available == 1


def test_cached_blocks_are_evicted_last_and_the_oldest_first() -> None:
    pool, evicted = make_pool()
    for block in (pool.allocate(), pool.allocate()):
        pool.cache(block)
    pool.release(1)
    pool.release(0)

    assert [pool.allocate() for _ in range(3)] == [2, 1, 0]
    assert evicted == [1, 0]


def test_a_cached_block_that_is_used_again_is_not_evicted() -> None:
    pool, evicted = make_pool(total=2)
    pool.cache(pool.allocate())
    pool.release(0)
    pool.share(0)

    assert pool.allocate() == 1
    assert (pool.num_available, evicted) == (0, [])
    with pytest.raises(IndexError):
        pool.allocate()


def test_the_number_of_cached_blocks_is_limited() -> None:
    pool, evicted = make_pool(max_cached=1)
    for block in (pool.allocate(), pool.allocate()):
        pool.cache(block)
    pool.release(0)
    pool.release(1)

    assert evicted == [0]
    assert pool.is_idle(1)
    assert not pool.is_idle(0)


def test_a_dropped_block_is_not_cached() -> None:
    pool, evicted = make_pool(total=1)
    pool.cache(pool.allocate())
    pool.release(0)
    pool.uncache(0)

    assert not pool.is_idle(0)
    assert pool.allocate() == 0
    assert evicted == []


def test_a_block_that_nobody_uses_cannot_be_released() -> None:
    pool, _ = make_pool()
    with pytest.raises(ValueError, match="Block 1 is not in use"):
        pool.release(1)


def test_a_pool_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one block"):
        make_pool(total=0)
