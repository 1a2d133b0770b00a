from __future__ import annotations

import pytest

from common.jobs.sampling import SamplingParams
from worker.engine.kv_cache.manager import KVCacheManager
from worker.engine.scheduler import Scheduler
from worker.engine.sequence import Sequence, SequenceStatus


def make_sequence(name: str, num_prompt_tokens: int = 1, output_ids: tuple[int, ...] = ()) -> Sequence:
    return Sequence(name, list(range(num_prompt_tokens)), SamplingParams(seed=0), output_ids=list(output_ids))


def make_scheduler(
    max_num_seqs: int,
    prefill_chunk: int,
    *,
    mixed_chunk: int = 1000,
    short_prompt: int = 0,
    num_blocks: int | None = None,
    block_tokens: int = 64,
) -> Scheduler:
    """A scheduler over a cache that holds `max_num_seqs` sequences of 64 tokens."""
    blocks = num_blocks or max_num_seqs * 64 // block_tokens
    return Scheduler(
        KVCacheManager(blocks, block_tokens, context_length=64),
        max_running=max_num_seqs,
        prefill_chunk=prefill_chunk,
        mixed_chunk=mixed_chunk,
        short_prompt=short_prompt,
    )


def run_step(scheduler: Scheduler) -> list[tuple[str, int, tuple[int, ...], bool]]:
    """Schedule and compute one step; every sampled sequence gets token 7."""
    batch = scheduler.schedule()
    sampled = batch.sampled
    rows = [
        (sequence.sequence_id, row.start, row.token_ids, row.needs_logits)
        for sequence, row in zip(batch.sequences, batch.rows, strict=True)
    ]
    scheduler.advance(batch)
    for sequence in sampled:
        sequence.output_ids.append(7)
    return rows


def test_sequences_start_in_order_of_arrival_as_capacity_becomes_free() -> None:
    scheduler = make_scheduler(2, 10)
    first, second, third = (make_sequence(name) for name in "abc")
    for sequence in (first, second, third):
        scheduler.add(sequence)

    assert [name for name, *_ in run_step(scheduler)] == ["a", "b"]
    assert third.status is SequenceStatus.WAITING
    scheduler.remove(first)
    assert [name for name, *_ in run_step(scheduler)] == ["b", "c"]
    assert third.status is SequenceStatus.RUNNING


def test_a_long_prompt_is_computed_in_chunks_while_others_decode() -> None:
    scheduler = make_scheduler(2, 4)
    scheduler.add(make_sequence("short", 2))
    run_step(scheduler)
    scheduler.add(make_sequence("long", 9))

    assert run_step(scheduler) == [("short", 2, (7,), True), ("long", 0, (0, 1, 2, 3), False)]
    assert run_step(scheduler) == [("short", 3, (7,), True), ("long", 4, (4, 5, 6, 7), False)]
    assert run_step(scheduler) == [("short", 4, (7,), True), ("long", 8, (8,), True)]
    assert run_step(scheduler) == [("short", 5, (7,), True), ("long", 9, (7,), True)]


def test_prefills_share_the_budget_oldest_first() -> None:
    scheduler = make_scheduler(3, 5)
    for name in "abc":
        scheduler.add(make_sequence(name, 4))

    assert [(name, len(ids)) for name, _, ids, _ in run_step(scheduler)] == [("a", 4), ("b", 1)]
    assert [(name, len(ids)) for name, _, ids, _ in run_step(scheduler)] == [("a", 1), ("b", 3), ("c", 2)]


def test_a_resumed_sequence_prefills_its_committed_tokens_with_its_prompt() -> None:
    scheduler = make_scheduler(1, 4)
    scheduler.add(make_sequence("a", 3, output_ids=(50, 51, 52)))

    assert run_step(scheduler) == [("a", 0, (0, 1, 2, 50), False)]
    assert run_step(scheduler) == [("a", 4, (51, 52), True)]


def test_a_removed_sequence_leaves_nothing_behind() -> None:
    scheduler = make_scheduler(1, 4)
    running, waiting = make_sequence("a"), make_sequence("b")
    scheduler.add(running)
    scheduler.add(waiting)
    run_step(scheduler)

    scheduler.remove(waiting)
    scheduler.remove(running)

    assert not scheduler.has_work
    scheduler.check_idle()


def test_a_lost_block_is_noticed_when_idle() -> None:
    scheduler = make_scheduler(2, 4)
    scheduler.add(make_sequence("a"))
    run_step(scheduler)
    scheduler.running.clear()

    with pytest.raises(RuntimeError, match="1 blocks are in use"):
        scheduler.check_idle()


def test_an_empty_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sequence and one token"):
        make_scheduler(1, 0)


def test_a_long_prompt_beside_decoding_sequences_is_computed_in_small_chunks() -> None:
    scheduler = make_scheduler(5, 16, mixed_chunk=2)
    for name in "abcd":
        scheduler.add(make_sequence(name, 2))
    run_step(scheduler)
    scheduler.add(make_sequence("long", 12))

    assert [len(ids) for _, _, ids, _ in run_step(scheduler)] == [1, 1, 1, 1, 3], "three for four decoding ones"
    for _ in range(3):
        scheduler.remove(scheduler.running[0])
    assert [len(ids) for _, _, ids, _ in run_step(scheduler)] == [1, 2], "but no fewer than the mixed chunk"
    scheduler.remove(scheduler.running[0])
    assert [len(ids) for _, _, ids, _ in run_step(scheduler)] == [7], "in one step if nobody waits for it"


def test_a_short_prompt_beside_decoding_sequences_is_computed_at_once() -> None:
    scheduler = make_scheduler(4, 16, mixed_chunk=2, short_prompt=6)
    scheduler.add(make_sequence("decoding", 1))
    run_step(scheduler)
    scheduler.add(make_sequence("short", 6))
    assert [len(ids) for _, _, ids, _ in run_step(scheduler)] == [1, 6]

    scheduler.add(make_sequence("long", 12))
    assert [len(ids) for _, _, ids, _ in run_step(scheduler)] == [1, 1, 2]
    scheduler.add(Sequence("late", list(range(50, 55)), SamplingParams(seed=0)))
    assert [len(ids) for _, _, ids, _ in run_step(scheduler)] == [1, 1, 4, 2], "the oldest first, the long one in parts"
    assert [len(ids) for _, _, ids, _ in run_step(scheduler)] == [1, 1, 6], "its rest is short"
    assert [len(ids) for _, _, ids, _ in run_step(scheduler)] == [1, 1, 1, 3]


def test_when_the_cache_is_full_the_youngest_is_preempted_and_resumed_first() -> None:
    scheduler = make_scheduler(3, 64, num_blocks=16, block_tokens=4)
    old, young = make_sequence("a", 31), Sequence("b", list(range(100, 123)), SamplingParams(seed=0))
    scheduler.add(old)
    scheduler.add(young)
    run_step(scheduler)  # 14 of 16 blocks
    assert [old.status, young.status] == [SequenceStatus.RUNNING] * 2
    scheduler.add(make_sequence("c", 1))
    while young.status is SequenceStatus.RUNNING:
        run_step(scheduler)

    assert [one.sequence_id for one in scheduler.waiting] == ["b", "c"]
    assert scheduler.num_preemptions == 1
    assert [name for name, *_ in run_step(scheduler)] == ["a"], "nobody overtakes the one that does not fit"
    scheduler.remove(old)
    begin = young.num_output_tokens
    names = {name for _ in range(3) for name, *_ in run_step(scheduler)}
    assert names == {"b", "c"}
    assert young.num_output_tokens > begin


def test_a_preempted_sequence_reuses_its_remaining_blocks() -> None:
    scheduler = make_scheduler(2, 64, block_tokens=4)
    sequence = make_sequence("a", 20)
    scheduler.add(sequence)
    run_step(scheduler)
    scheduler._preempt(sequence)

    assert [(start, len(ids)) for _, start, ids, _ in run_step(scheduler)] == [(20, 1)]


def test_prompts_that_begin_alike_are_computed_once() -> None:
    scheduler = make_scheduler(3, 64, block_tokens=4)
    for name in "abc":
        scheduler.add(make_sequence(name, 18))

    assert [(name, len(ids)) for name, _, ids, _ in run_step(scheduler)] == [("a", 18)]
    assert [(name, len(ids)) for name, _, ids, _ in run_step(scheduler)] == [("a", 1), ("b", 2), ("c", 2)]


def test_without_memory_for_a_step_half_of_it_is_tried() -> None:
    scheduler = make_scheduler(4, 32)
    for name in "abcd":
        scheduler.add(make_sequence(name, 8))
    assert scheduler.shrink(scheduler.schedule())

    assert [one.sequence_id for one in scheduler.running] == ["a", "b"]
    assert [one.sequence_id for one in scheduler.waiting] == ["c", "d"]
    assert [len(row.token_ids) for row in scheduler.schedule().rows] == [4]
    assert scheduler.shrink(scheduler.schedule())
    assert scheduler.shrink(scheduler.schedule())
    assert [len(row.token_ids) for row in scheduler.schedule().rows] == [1]
    assert not scheduler.shrink(scheduler.schedule()), "there is nothing smaller than one token"
