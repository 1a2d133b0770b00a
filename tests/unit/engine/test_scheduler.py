from __future__ import annotations

import pytest

from common.sampling import SamplingParams
from worker.engine.scheduler import Scheduler
from worker.engine.sequence import Sequence, SequenceStatus
from worker.engine.slots import SlotPool


def make_sequence(name: str, num_prompt_tokens: int = 1, output_ids: tuple[int, ...] = ()) -> Sequence:
    return Sequence(name, list(range(num_prompt_tokens)), SamplingParams(seed=0), output_ids=list(output_ids))


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


def test_sequences_start_in_the_order_of_their_arrival_as_slots_become_free() -> None:
    scheduler = Scheduler(num_slots=2, prefill_chunk=10)
    first, second, third = (make_sequence(name) for name in "abc")
    for sequence in (first, second, third):
        scheduler.add(sequence)

    assert [name for name, *_ in run_step(scheduler)] == ["a", "b"]
    assert third.status is SequenceStatus.WAITING
    scheduler.remove(first)
    assert [name for name, *_ in run_step(scheduler)] == ["b", "c"]
    assert third.slot == 0


def test_a_long_prompt_is_computed_in_chunks_while_others_decode() -> None:
    scheduler = Scheduler(num_slots=2, prefill_chunk=4)
    scheduler.add(make_sequence("short", 2))
    run_step(scheduler)
    scheduler.add(make_sequence("long", 9))

    assert run_step(scheduler) == [("short", 2, (7,), True), ("long", 0, (0, 1, 2, 3), False)]
    assert run_step(scheduler) == [("short", 3, (7,), True), ("long", 4, (4, 5, 6, 7), False)]
    assert run_step(scheduler) == [("short", 4, (7,), True), ("long", 8, (8,), True)]
    assert run_step(scheduler) == [("short", 5, (7,), True), ("long", 9, (7,), True)]


def test_prefills_share_the_budget_oldest_first() -> None:
    scheduler = Scheduler(num_slots=3, prefill_chunk=5)
    for name in "abc":
        scheduler.add(make_sequence(name, 4))

    assert [(name, len(ids)) for name, _, ids, _ in run_step(scheduler)] == [("a", 4), ("b", 1)]
    assert [(name, len(ids)) for name, _, ids, _ in run_step(scheduler)] == [("a", 1), ("b", 3), ("c", 2)]


def test_a_continued_sequence_prefills_its_committed_tokens_with_its_prompt() -> None:
    scheduler = Scheduler(num_slots=1, prefill_chunk=4)
    scheduler.add(make_sequence("a", 3, output_ids=(50, 51, 52)))

    assert run_step(scheduler) == [("a", 0, (0, 1, 2, 50), False)]
    assert run_step(scheduler) == [("a", 4, (51, 52), True)]


def test_a_removed_sequence_leaves_nothing_behind() -> None:
    scheduler = Scheduler(num_slots=1, prefill_chunk=4)
    running, waiting = make_sequence("a"), make_sequence("b")
    scheduler.add(running)
    scheduler.add(waiting)
    run_step(scheduler)

    scheduler.remove(waiting)
    scheduler.remove(running)

    assert not scheduler.has_work
    assert scheduler.num_free_slots == 1
    scheduler.check_idle()


def test_a_lost_slot_is_noticed_when_idle() -> None:
    scheduler = Scheduler(num_slots=2, prefill_chunk=4)
    scheduler.add(make_sequence("a"))
    run_step(scheduler)
    scheduler.running.clear()

    with pytest.raises(RuntimeError, match="1 slots are taken"):
        scheduler.check_idle()


def test_a_prefill_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Scheduler(num_slots=1, prefill_chunk=0)


def test_the_lowest_free_slot_is_taken_first() -> None:
    pool = SlotPool(3)
    assert [pool.allocate() for _ in range(3)] == [0, 1, 2]
    pool.free(2)
    pool.free(0)

    assert pool.allocate() == 0
    assert pool.num_free == 1


@pytest.mark.parametrize("slot", [0, 3, -1])
def test_a_slot_that_is_not_taken_cannot_be_freed(slot: int) -> None:
    with pytest.raises(ValueError, match="not taken"):
        SlotPool(3).free(slot)


def test_a_pool_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        SlotPool(0)
