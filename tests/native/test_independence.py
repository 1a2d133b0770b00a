"""A row's logits are the same to the bit in any batch and with any prefill chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.native.conftest import FORMATS, make_model, prompt, row

LENGTH = 330  # six blocks, two spans


@pytest.fixture(params=FORMATS.values(), ids=FORMATS)
def numbers(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest):
    return make_model(request.param)


def decode_alone(runner, token_ids: tuple[int, ...], num_decoded: int = 3) -> Tensor:
    """Logits of the last `num_decoded` positions, each computed as a single token."""
    begin = len(token_ids) - num_decoded
    runner.forward([row(0, token_ids[:begin], needs_logits=False)])
    return torch.cat([runner.forward([row(0, token_ids[i : i + 1], i)]).clone() for i in range(begin, len(token_ids))])


def test_chunks_of_any_size_give_the_same_bits(model, numbers, make_runner):
    runner = make_runner(model, **numbers)
    token_ids = prompt(LENGTH)
    expected = runner.forward([row(0, token_ids)]).clone()
    for size in (1, 5, 64, 100):
        for begin in range(0, LENGTH, size):
            logits = runner.forward([row(1, token_ids[begin : begin + size], begin)])
        assert torch.equal(logits, expected), f"chunks of {size}"


def test_batch_mates_do_not_change_a_bit(model, numbers, make_runner):
    runner = make_runner(model, **numbers, max_num_seqs=9)
    token_ids = prompt(LENGTH)
    expected = decode_alone(runner, token_ids)
    for num_mates in (1, 2, 5, 8):
        mates = [
            row(sequence, prompt(20 * sequence, sequence), needs_logits=False) for sequence in range(1, num_mates + 1)
        ]
        runner.forward([*mates, row(0, token_ids[:-3], needs_logits=False)])
        for offset in range(3):
            begin = LENGTH - 3 + offset
            decoding = [row(sequence, (offset,), 20 * sequence + offset) for sequence in range(1, num_mates + 1)]
            logits = runner.forward([*decoding, row(0, token_ids[begin : begin + 1], begin)])
            assert torch.equal(logits[-1], expected[offset]), f"{num_mates} mates"


def test_a_chunk_of_a_mate_does_not_change_a_bit(model, numbers, make_runner):
    runner = make_runner(model, **numbers)
    token_ids = prompt(LENGTH)
    expected = decode_alone(runner, token_ids, 1)
    runner.forward([row(0, token_ids[:-1], needs_logits=False)])
    logits = runner.forward([row(1, prompt(150, 5)), row(0, token_ids[-1:], LENGTH - 1)])
    assert torch.equal(logits[1:], expected)


@pytest.mark.parametrize("num_draft_tokens", [1, 2, 3])
def test_draft_tokens_get_the_same_bits_as_one_by_one(model, numbers, make_runner, num_draft_tokens):
    runner = make_runner(model, **numbers)
    token_ids = prompt(LENGTH)
    expected = decode_alone(runner, token_ids, 1 + num_draft_tokens)
    begin = LENGTH - 1 - num_draft_tokens
    trial = row(0, token_ids[begin:], begin)._replace(num_draft_tokens=num_draft_tokens)
    mate = row(1, prompt(20, 3))
    logits = runner.forward([mate, trial])
    assert torch.equal(logits[1:], expected)


def test_the_cache_entry_of_a_rejected_draft_token_does_not_matter(model, numbers, make_runner):
    runner = make_runner(model, **numbers)
    token_ids = prompt(LENGTH)
    expected = decode_alone(runner, token_ids)
    begin = LENGTH - 3
    wrong = (token_ids[begin], 7, 8, 9)
    runner.forward([row(0, wrong, begin)._replace(num_draft_tokens=3)])
    found = torch.cat([runner.forward([row(0, token_ids[i : i + 1], i)]).clone() for i in range(begin, LENGTH)])
    assert torch.equal(found, expected)


def test_the_number_of_threads_does_not_change_a_bit(model, numbers, make_runner):
    token_ids = prompt(LENGTH)
    one, two, three = (decode_alone(make_runner(model, **numbers, threads=threads), token_ids) for threads in (1, 2, 3))
    assert torch.equal(one, two)
    assert torch.equal(one, three)


def test_every_kernel_set_keeps_rows_apart(numbers, make_runner, all_kernels):
    model, token_ids = make_model("llama"), prompt(100)
    for kernels in all_kernels:
        runner = make_runner(model, **numbers, kernels=kernels, max_num_seqs=9)
        alone = runner.forward([row(0, token_ids)]).clone()
        together = runner.forward([row(sequence, token_ids[: 92 + sequence]) for sequence in range(9)])
        assert torch.equal(alone[0], together[8]), kernels
