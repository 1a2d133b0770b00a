"""Rows of different adapters and of the bare base in one step: each gets what its own adapter computes, to the bit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.native.conftest import MODELS, make_model, prompt, row
from tests.native.random_adapters import adapted_logits, linear_modules, random_adapter
from worker.engine.lora import AdapterWeights
from worker.engine.model_runner import Row
from worker.engine.native.runner import NativeRunner

LENGTH = 150  # more than one block of rows of a linear layer
RANKS = (1, 3, 8, 16, 64, 80)


@pytest.fixture(params=["fp32", "int8"])
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Any:
    return make_model(request.param)


def add(runner: NativeRunner, **adapters: AdapterWeights) -> None:
    for adapter_id, weights in adapters.items():
        runner.add_adapter(adapter_id, runner.prepare_adapter(weights))


def adapted(sequence: int, token_ids: tuple[int, ...], adapter: str, start: int = 0) -> Row:
    return row(sequence, token_ids, start)._replace(adapter=adapter)


def several(model: Any) -> dict[str, AdapterWeights]:
    """Adapters of all ranks, some of a few modules only."""
    adapters = {f"rank{rank}": random_adapter(model, rank, seed) for seed, rank in enumerate(RANKS)}
    names = sorted(linear_modules(model))
    adapters["even"] = random_adapter(model, 5, 11, only=names[::2])
    adapters["odd"] = random_adapter(model, 7, 12, only=names[1::2])
    adapters["head"] = random_adapter(model, 16, 13, only=["lm_head"])
    return adapters


def alone(runner: NativeRunner, adapter: str, token_ids: tuple[int, ...], num_decoded: int = 2) -> Tensor:
    """Logits after the prompt and of the tokens decoded after it, with no other row in the steps."""
    begin = len(token_ids) - num_decoded
    rows = [adapted(0, token_ids[:begin], adapter)]
    rows += [adapted(0, token_ids[i : i + 1], adapter, i) for i in range(begin, len(token_ids))]
    return torch.cat([runner.forward([one]).clone() for one in rows])


@pytest.mark.parametrize("name", MODELS)
def test_every_module_can_be_adapted(name, make_runner):
    model = make_model(name)
    weights = random_adapter(model)
    runner = make_runner(model)
    add(runner, one=weights)
    token_ids = prompt(300)
    expected = adapted_logits(model, weights, token_ids)

    logits = alone(runner, "one", token_ids, 1)

    torch.testing.assert_close(logits, expected[298:], atol=1e-4, rtol=0)
    assert (expected[299] - model(torch.tensor([token_ids])).logits[0, 299]).abs().max() > 0.1


def test_ranks_and_modules_can_differ_within_a_step(model, make_runner, all_kernels):
    adapters = several(model)
    for kernels in all_kernels:
        runner = make_runner(model, max_num_seqs=len(adapters), kernels=kernels)
        add(runner, **adapters)
        logits = runner.forward([adapted(i, prompt(40 + i, i), name) for i, name in enumerate(adapters)])
        for i, weights in enumerate(adapters.values()):
            expected = adapted_logits(model, weights, prompt(40 + i, i))[-1]
            torch.testing.assert_close(logits[i], expected, atol=2e-4, rtol=0, msg=f"{kernels} {i}")


def test_adapters_of_int8_models_lose_no_more_than_the_base(model, make_runner, all_kernels):
    weights = random_adapter(model, 16)
    change = adapted_logits(model, weights, prompt(LENGTH))[-1] - model(torch.tensor([prompt(LENGTH)])).logits[0, -1]
    for kernels in all_kernels:
        runner = make_runner(model, precision="int8", kernels=kernels)
        add(runner, one=weights)
        base = runner.forward([row(0, prompt(LENGTH))]).clone()[0]
        found = runner.forward([adapted(0, prompt(LENGTH), "one")])[0] - base
        assert (found - change).norm() / change.norm() < 0.1, kernels


def test_neighbours_do_not_change_a_bit(model, precision, make_runner, all_kernels):
    adapters = several(model)
    for kernels in all_kernels:
        runner = make_runner(model, precision=precision, max_num_seqs=32, kernels=kernels)
        add(runner, **adapters)
        names = ["base", *adapters]
        token_ids = prompt(LENGTH)
        expected = {name: alone(runner, name, token_ids) for name in names}
        many = [names[7 * i % len(names)] for i in range(32)]  # every group size, in scattered rows
        for mixed in (names, [name for name in names for _ in range(3)], many, ["rank16"] * 32):
            parts = [(0, 1), (1, 40), (40, LENGTH - 2), *((i, i + 1) for i in range(LENGTH - 2, LENGTH))]
            steps = [
                runner.forward([adapted(i, token_ids[begin:end], name, begin) for i, name in enumerate(mixed)]).clone()
                for begin, end in parts
            ]
            found = torch.stack(steps[2:], dim=1)
            for i, name in enumerate(mixed):
                assert torch.equal(found[i], expected[name]), f"{kernels}: {name} of {len(mixed)}"


def test_chunks_and_threads_do_not_change_a_bit(model, precision, make_runner):
    adapters = several(model)
    token_ids = prompt(LENGTH)
    results: list[Tensor] = []
    for threads, size in ((1, LENGTH), (2, LENGTH), (3, 1), (2, 1), (2, 5), (2, 64), (3, 100)):
        runner = make_runner(model, precision=precision, threads=threads)
        add(runner, **adapters)
        for begin in range(0, LENGTH, size):
            chunk = token_ids[begin : begin + size]
            logits = runner.forward([adapted(i, chunk, f"rank{rank}", begin) for i, rank in enumerate((3, 16, 16, 64))])
        results.append(logits.clone())
    assert all(torch.equal(one, other) for one, other in pairwise(results))


def test_draft_tokens_get_the_same_bits_as_one_by_one(model, precision, make_runner):
    runner = make_runner(model, precision=precision)
    add(runner, one=random_adapter(model, 8))
    token_ids = prompt(LENGTH)
    expected = alone(runner, "one", token_ids, 3)
    trial = adapted(0, token_ids[-4:], "one", LENGTH - 4)._replace(num_draft_tokens=3)
    assert torch.equal(runner.forward([row(1, prompt(20)), trial])[1:], expected)


def test_an_adapter_that_was_added_later_does_not_change_the_others(precision, make_runner):
    model = make_model("llama")
    runner = make_runner(model, precision=precision)
    expected = alone(runner, "base", prompt(LENGTH))
    add(runner, small=random_adapter(model, 2))
    small = alone(runner, "small", prompt(LENGTH))
    add(runner, large=random_adapter(model, 64, 1))
    alone(runner, "large", prompt(LENGTH))
    assert torch.equal(alone(runner, "base", prompt(LENGTH)), expected)
    assert torch.equal(alone(runner, "small", prompt(LENGTH)), small)


def test_a_row_with_an_unknown_adapter_is_refused(make_runner):
    model = make_model("llama")
    runner = make_runner(model)
    add(runner, one=random_adapter(model))
    runner.remove_adapter("one")
    with pytest.raises(ValueError, match="'one'"):
        runner.forward([adapted(0, prompt(5), "one")])


def test_a_closed_adapter_cannot_be_added(make_runner):
    model = make_model("llama")
    runner = make_runner(model)
    prepared = runner.prepare_adapter(random_adapter(model))
    prepared.close()
    prepared.close()
    with pytest.raises(ValueError, match="closed"):
        runner.add_adapter("one", prepared)
