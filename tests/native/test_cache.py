"""The blocks of the cache in the native code."""

from __future__ import annotations

import ctypes

import pytest
import torch

from tests.native.conftest import CONTEXT, FORMATS, LLAMA, ROW_BLOCKS, make_model, prompt, row
from worker.engine.model_runner import Row
from worker.engine.native.library import BLOCK_TOKENS

each_format = pytest.mark.parametrize("numbers", FORMATS.values(), ids=FORMATS)


@each_format
def test_the_previous_contents_of_a_block_do_not_matter(make_runner, numbers):
    runner = make_runner(make_model("llama"), **numbers)
    expected = runner.forward([row(0, prompt(50))]).clone()
    runner.forward([row(0, prompt(400, 1))])
    assert torch.equal(runner.forward([row(0, prompt(50))]), expected)


@each_format
def test_what_the_memory_held_before_the_first_token_does_not_matter(make_runner, numbers):
    runner = make_runner(make_model("llama"), **numbers)
    expected = runner.forward([row(0, prompt(50)[:48]), row(1, prompt(50))]).clone()
    ctypes.memset(runner._cache.address, 0xFF, runner._cache.size)  # NaN in every format
    assert torch.equal(runner.forward([row(0, prompt(50)[:48]), row(1, prompt(50))]), expected)


@each_format
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_sequences_that_share_blocks_get_the_same_bits_as_alone(make_runner, name, numbers):
    runner = make_runner(make_model(name), **numbers)
    token_ids = prompt(150)
    expected = runner.forward([row(0, token_ids)]).clone()
    shared = row(0, ())
    tail = Row((*shared.blocks[:2], ROW_BLOCKS, ROW_BLOCKS + 1), token_ids[128:], 128, "base", needs_logits=True)
    assert torch.equal(runner.forward([tail]), expected)


@each_format
def test_a_copied_prefix_gets_the_same_bits_as_a_computed_one(make_runner, numbers):
    runner = make_runner(make_model("llama"), **numbers)
    token_ids = prompt(60)
    expected = runner.forward([row(0, token_ids)]).clone()
    runner.copy_block(0, ROW_BLOCKS, 40)
    assert torch.equal(runner.forward([row(1, token_ids[40:], 40)]), expected)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (row(0, ()), "has no token"),
        (row(0, (1,) * (CONTEXT + 1)), "10 blocks for 0 \\+ 641 tokens"),
        (Row((0,), (1,), 64, "base", needs_logits=True), "1 blocks for 64 \\+ 1 tokens"),
        (Row(tuple(range(11)), (1,), 0, "base", needs_logits=True), "the limit is 10"),
        (Row((40,), (1,), 0, "base", needs_logits=True), "a block outside the cache of 40"),
        (Row((-1,), (1,), 0, "base", needs_logits=True), "a block outside the cache of 40"),
    ],
)
def test_rows_that_would_write_outside_their_blocks_are_refused(make_runner, wrong, reason):
    runner = make_runner(make_model("llama"))
    with pytest.raises(ValueError, match=reason):
        runner.forward([wrong])


def test_a_budget_limits_the_blocks(make_runner):
    model = make_model("llama")
    block_bytes = make_runner(model).block_bytes
    assert make_runner(model, max_num_seqs=4, kv_bytes=25 * block_bytes).num_blocks == 25
    assert make_runner(model, max_num_seqs=4, kv_bytes=2**40).num_blocks == 4 * ROW_BLOCKS


def test_a_cache_in_int8_has_a_byte_per_number_and_a_scale_for_each_token_and_head(make_runner):
    block_bytes = make_runner(make_model("llama"), kv_cache_dtype="int8").block_bytes
    keys_or_values = LLAMA["num_hidden_layers"] * LLAMA["num_key_value_heads"] * BLOCK_TOKENS
    assert block_bytes == 2 * keys_or_values * (LLAMA["head_dim"] + 4)


@pytest.mark.parametrize("name", ["llama", "llama, heads of 48", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_cache_in_int8_changes_the_logits_a_little_on_every_kernel_set(make_runner, all_kernels, name, precision):
    model, token_ids = make_model(name), prompt(300)
    for kernels in all_kernels:
        exact, short = (
            make_runner(model, precision=precision, kernels=kernels, kv_cache_dtype=dtype).forward([row(0, token_ids)])
            for dtype in ("auto", "int8")
        )
        change = (short - exact).norm() / exact.norm()
        assert 0 < change < 0.02, kernels


def test_a_budget_below_one_sequence_is_refused(make_runner):
    with pytest.raises(ValueError, match="the limit is 1000"):
        make_runner(make_model("llama"), kv_bytes=1000)


def test_tokens_outside_the_vocabulary_are_refused(make_runner):
    runner = make_runner(make_model("llama"))
    for token_id in (-1, runner.vocab_size):
        with pytest.raises(ValueError, match="not in the vocabulary"):
            runner.forward([row(0, (token_id,))])
