from __future__ import annotations

import random

from worker.engine.device.slot_map import SlotMap


def test_at_first_every_block_is_in_the_slot_of_its_number() -> None:
    slots = SlotMap(3)

    assert [slots.slot(block) for block in range(3)] == [slots.block(slot) for slot in range(3)] == [0, 1, 2]
    assert slots.exchanges([0, 1], 2) == []


def test_only_blocks_outside_the_first_slots_move_and_only_to_slots_that_no_other_needs() -> None:
    slots = SlotMap(6)

    assert slots.exchanges([5, 1, 4], 4) == [(5, 0), (4, 2)]


def test_blocks_are_among_the_first_slots_afterwards_and_none_is_lost() -> None:
    rng, slots = random.Random(0), SlotMap(16)
    for _ in range(300):
        blocks = rng.sample(range(16), rng.randint(1, 16))
        num_first = rng.randint(len(blocks), 16)
        pairs = slots.exchanges(blocks, num_first)
        for first, second in pairs:
            slots.exchange(first, second)

        assert len({slot for pair in pairs for slot in pair}) == 2 * len(pairs)
        assert all(slots.slot(block) < num_first for block in blocks)
        assert sorted(slots.slot(block) for block in range(16)) == list(range(16))
        assert all(slots.block(slots.slot(block)) == block for block in range(16))
