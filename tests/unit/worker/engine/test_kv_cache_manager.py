"""Blocks of four tokens throughout; at most 40 tokens a sequence."""

from __future__ import annotations

import random

import pytest

from common.jobs.sampling import SamplingParams
from worker.engine.kv_cache import manager as kv_cache_manager
from worker.engine.kv_cache.manager import BlockCopy, KVCacheManager
from worker.engine.sequence import BASE_ADAPTER, Sequence

SIZE, CONTEXT = 4, 40


@pytest.fixture(autouse=True)
def _copies_pay_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache_manager, "MIN_COPIED", 2)


def make_cache(num_blocks: int = 100) -> KVCacheManager:
    return KVCacheManager(num_blocks, SIZE, CONTEXT)


def make_sequence(*token_ids: int, adapter: str = BASE_ADAPTER) -> Sequence:
    return Sequence("s", list(token_ids), SamplingParams(seed=0), adapter=adapter)


def compute(cache: KVCacheManager, sequence: Sequence) -> None:
    """Compute all of the sequence's tokens."""
    sequence.num_computed_tokens = sequence.num_tokens
    cache.note_computed(sequence)


def run(cache: KVCacheManager, *token_ids: int) -> list[int]:
    """Allocate, compute and free a sequence; returns its blocks."""
    sequence = make_sequence(*token_ids)
    cache.allocate(sequence)
    compute(cache, sequence)
    blocks = sequence.blocks
    cache.free(sequence, reusable=True)
    return blocks


def test_a_sequence_gets_the_blocks_of_its_tokens_and_more_as_it_grows() -> None:
    cache = make_cache()
    sequence = make_sequence(*range(5))
    assert cache.allocate(sequence) == []
    assert (len(sequence.blocks), sequence.num_computed_tokens) == (2, 0)
    assert cache.extend(sequence, 8)
    assert len(sequence.blocks) == 2
    assert cache.extend(sequence, 9)
    assert len(sequence.blocks) == 3
    cache.free(sequence, reusable=False)
    assert (cache.num_used, sequence.blocks) == (0, [])


def test_full_blocks_of_a_common_prefix_are_shared() -> None:
    cache = make_cache()
    first, second = make_sequence(*range(10)), make_sequence(*range(8), 50, 51)
    cache.allocate(first)
    compute(cache, first)

    assert cache.allocate(second) == []
    assert second.blocks[:2] == first.blocks[:2]
    assert second.blocks[2] not in first.blocks
    assert second.num_computed_tokens == 8


def test_the_beginning_of_a_block_is_copied() -> None:
    cache = make_cache()
    first = run(cache, *range(12))
    second = make_sequence(0, 1, 2, 3, 4, 5, 60, 61)

    assert cache.allocate(second) == [BlockCopy(source=first[1], target=second.blocks[1], num_tokens=2)]
    assert second.num_computed_tokens == 6


def test_a_next_turn_reuses_its_chat_up_to_the_last_token() -> None:
    cache = make_cache()
    first = run(cache, *range(10))  # two full blocks and a half
    second = make_sequence(*range(10), 70, 71, 72)

    assert cache.allocate(second) == [BlockCopy(source=first[2], target=second.blocks[2], num_tokens=2)]
    assert second.num_computed_tokens == 10


def test_the_last_token_is_computed_even_if_all_is_known() -> None:
    cache = make_cache()
    run(cache, *range(8))
    again = make_sequence(*range(8))
    cache.allocate(again)
    assert again.num_computed_tokens == 7
    assert len(again.blocks) == 2


def test_adapters_share_nothing() -> None:
    cache = make_cache()
    run(cache, *range(12))
    other = make_sequence(*range(12), adapter="other")
    assert cache.allocate(other) == []
    assert other.num_computed_tokens == 0


def test_a_failed_sequences_valid_blocks_are_cached() -> None:
    cache = make_cache()
    failed = make_sequence(*range(7))
    cache.allocate(failed)
    compute(cache, failed)
    cache.free(failed, reusable=False)
    again = make_sequence(*range(12))
    assert cache.allocate(again) == []
    assert again.num_computed_tokens == 4


def test_two_sequences_that_compute_the_same_end_with_one_copy() -> None:
    cache = make_cache()
    first, second = make_sequence(*range(9)), make_sequence(*range(9))
    cache.allocate(first)
    cache.allocate(second)
    compute(cache, first)
    compute(cache, second)
    assert second.blocks[:2] == first.blocks[:2]
    assert cache.num_used == 4


def test_an_allocation_that_does_not_fit_changes_nothing() -> None:
    cache = make_cache(num_blocks=10)
    first, second = make_sequence(*range(30)), make_sequence(*range(100, 113))
    cache.allocate(first)
    assert cache.allocate(second) is None
    assert second.blocks == []
    assert not cache.extend(first, 41)
    assert cache.num_used == 8


def test_headroom_is_left_for_others() -> None:
    cache = make_cache(num_blocks=10)
    sequence = make_sequence(*range(36))
    assert cache.allocate(sequence, headroom=2) is None
    assert cache.allocate(sequence, headroom=1) == []


def test_cached_blocks_are_evicted_for_new_sequences() -> None:
    cache = make_cache(num_blocks=10)
    run(cache, *range(8))
    big = make_sequence(*range(200, 239))
    assert cache.allocate(big) == []
    assert len(big.blocks) == 10
    cache.free(big, reusable=False)
    again = make_sequence(*range(8))
    cache.allocate(again)
    assert again.num_computed_tokens == 0


def test_a_sequence_can_wait_for_the_prompt_of_another_one() -> None:
    cache = make_cache()
    first, second, third = make_sequence(*range(9)), make_sequence(*range(9)), make_sequence(*range(3), *range(50, 56))
    cache.allocate(first)
    assert cache.shares_with(second, first)
    assert not cache.shares_with(third, first)
    compute(cache, first)
    assert not cache.shares_with(second, first), "there is nothing to wait for any more"


def test_a_cache_below_one_context_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 10 blocks, got 9"):
        make_cache(num_blocks=9)


class Life:
    """Sequences that arrive, grow and leave at random, and the contents of every block."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        num_blocks = self.random.choice([10, 14, 30])
        self.cache = make_cache(num_blocks)
        self.live: list[Sequence] = []
        self._content: list[list[int]] = [[] for _ in range(num_blocks)]

    def open(self) -> None:
        """Cached blocks must contain what the sequence would have computed."""
        sequence = make_sequence(*(self.random.choice([1, 2]) for _ in range(self.random.randint(1, 20))))
        copies = self.cache.allocate(sequence)
        if copies is None:
            return
        for copy in copies:
            self._content[copy.target] = self._content[copy.source][: copy.num_tokens]
        found = [self._content[sequence.blocks[i // SIZE]][i % SIZE] for i in range(sequence.num_computed_tokens)]
        assert found == sequence.prompt_ids[: len(found)]
        self.live.append(sequence)
        self._compute(sequence)

    def grow(self) -> None:
        sequence = self.random.choice(self.live)
        if sequence.num_tokens < CONTEXT and self.cache.extend(sequence, sequence.num_tokens + 1):
            sequence.output_ids.append(self.random.choice([1, 2]))
            self._compute(sequence)

    def close(self) -> None:
        self.cache.free(self.live.pop(self.random.randrange(len(self.live))), reusable=self.random.random() < 0.8)

    def _compute(self, sequence: Sequence) -> None:
        for index in range(sequence.num_computed_tokens, sequence.num_tokens):
            self._content[sequence.blocks[index // SIZE]][index % SIZE :] = sequence.ids(index, 1)
        compute(self.cache, sequence)


@pytest.mark.parametrize("seed", range(20))
def test_after_any_operations_every_block_is_available_and_every_hit_is_right(seed: int) -> None:
    life = Life(seed)
    for _ in range(400):
        choices = [life.open, life.open, life.grow, life.close] if life.live else [life.open]
        life.random.choice(choices)()
    while life.live:
        life.close()
    assert life.cache.num_used == 0
