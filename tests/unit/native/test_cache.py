"""Slots and their cache blocks."""

from __future__ import annotations

import pytest
import torch

from tests.unit.native.conftest import make_model, prompt, row
from worker.engine.native.block_tables import BlockTables
from worker.engine.native.errors import CacheFull


def test_a_slot_takes_blocks_as_it_grows_and_gives_them_back_when_it_is_freed():
    tables = BlockTables(num_slots=2, num_blocks=6, context_length=256)
    tables.extend([row(0, (1,) * 64), row(1, (1,) * 65)])
    assert tables.num_free_blocks == 3
    tables.extend([row(0, (1,), 64)])
    assert tables.num_free_blocks == 2
    tables.free(1)
    assert tables.num_free_blocks == 4


def test_opening_a_slot_anew_gives_its_old_blocks_back():
    tables = BlockTables(num_slots=1, num_blocks=4, context_length=256)
    tables.extend([row(0, (1,) * 200)])
    assert tables.blocks_needed([row(0, (1,) * 10)]) == -3
    tables.extend([row(0, (1,) * 10)])
    assert tables.num_free_blocks == 3


def test_a_step_that_does_not_fit_changes_nothing():
    tables = BlockTables(num_slots=3, num_blocks=3, context_length=192)
    tables.extend([row(0, (1,) * 100)])
    with pytest.raises(CacheFull, match="needs 2 cache blocks, but 1 are free"):
        tables.extend([row(1, (1,) * 30), row(2, (1,) * 30)])
    tables.extend([row(0, (1,) * 92, 100)])
    assert tables.num_free_blocks == 0


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (row(0, (1,), 5), "no row starts at 5"),
        (row(0, ()), "has no token"),
        (row(0, (1,) * 193), "cannot hold more than 192"),
    ],
)
def test_rows_that_do_not_continue_their_slot_are_refused(wrong, reason):
    tables = BlockTables(num_slots=1, num_blocks=3, context_length=192)
    with pytest.raises(ValueError, match=reason):
        tables.extend([wrong])


def test_a_full_cache_costs_the_step_but_not_the_slots(make_runner):
    model = make_model("llama")
    blocks_of_one = make_runner(model, num_slots=1, context_length=128).block_bytes * 2
    runner = make_runner(model, num_slots=2, context_length=128, kv_bytes=blocks_of_one)
    token_ids = prompt(70)
    runner.forward([row(0, token_ids[:69])])
    with pytest.raises(CacheFull):
        runner.forward([row(0, token_ids[69:], 69), row(1, token_ids)])
    kept = runner.forward([row(0, token_ids[69:], 69)]).clone()
    runner.free_slot(0)
    assert torch.equal(runner.forward([row(1, token_ids)]), kept)


def test_a_slot_forgets_its_former_sequence(make_runner):
    runner = make_runner(make_model("llama"))
    expected = runner.forward([row(0, prompt(50))]).clone()
    runner.forward([row(0, prompt(400, 1))])
    assert torch.equal(runner.forward([row(0, prompt(50))]), expected)


def test_a_budget_below_one_slot_is_refused(make_runner):
    with pytest.raises(ValueError, match="the budget is 1000"):
        make_runner(make_model("llama"), kv_bytes=1000)


def test_tokens_outside_the_vocabulary_are_refused(make_runner):
    runner = make_runner(make_model("llama"))
    for token_id in (-1, runner.vocab_size):
        with pytest.raises(ValueError, match="not in the vocabulary"):
            runner.forward([row(0, (token_id,))])
