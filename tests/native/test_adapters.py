"""Rows with adapters get the logits that peft computes, in every runner and whatever the other rows carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine_config import runner_config
from tests.peft_adapters import (
    ALL,
    CASES,
    IGNORED_WARNINGS,
    VOCAB_SIZE,
    SavedAdapter,
    logits_of,
    make_base,
    save_adapter,
)
from tests.unit.worker.engine.tiny_models import CONFIGS as ARCHITECTURES
from tests.unit.worker.engine.tiny_models import make_model
from worker.engine.device.runner import DeviceRunner
from worker.engine.lora import AdapterWeights, LoraMatrices
from worker.engine.model_runner import ModelRunner, Row, UnsupportedAdapter
from worker.engine.runners.transformers.runner import TransformersRunner
from worker.engine.sequence import BASE_ADAPTER

pytestmark = IGNORED_WARNINGS

CONFIG = runner_config(max_num_seqs=8, context_length=64)
CPU: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
RUNNERS: dict[str, Callable[[Any], ModelRunner]] = {
    "device": lambda model: DeviceRunner(model.config, model.state_dict(), CONFIG, **CPU),
    "transformers": lambda model: TransformersRunner(model, CONFIG),
}
NUM_DECODED = 3


@pytest.fixture(params=RUNNERS)
def make_runner(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], ModelRunner]]:
    runners: list[ModelRunner] = []

    def make(model: Any) -> ModelRunner:
        runners.append(RUNNERS[request.param](model))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


def text(index: int, length: int = 12) -> list[int]:
    return [(5 + 7 * index + 11 * position + position * position) % VOCAB_SIZE for position in range(length)]


def row(runner: ModelRunner, index: int, token_ids: list[int], start: int, adapter: str, **options: Any) -> Row:
    per_row = -(-runner.context_length // runner.block_tokens)
    blocks = tuple(range(index * per_row, (index + 1) * per_row))
    return Row(blocks, tuple(token_ids), start, adapter, **({"needs_logits": True} | options))


def run(runner: ModelRunner, adapters: list[str], texts: list[list[int]]) -> list[Tensor]:
    """Compute all texts in the same forwards: two chunks of the prompt, then token by token.

    Returns the logits of each text's last tokens, [1 + NUM_DECODED, vocab_size].
    """
    rows = list(enumerate(zip(texts, adapters, strict=True)))
    ends = [len(one) - NUM_DECODED for one in texts]
    runner.forward([row(runner, i, one[:4], 0, adapter, needs_logits=False) for i, (one, adapter) in rows])
    logits = [runner.forward([row(runner, i, one[4 : ends[i]], 4, adapter) for i, (one, adapter) in rows]).clone()]
    for offset in range(NUM_DECODED):
        starts = [end + offset for end in ends]
        step = [row(runner, i, [one[starts[i]]], starts[i], adapter) for i, (one, adapter) in rows]
        logits.append(runner.forward(step).clone())
    return [torch.stack([step[i] for step in logits]) for i, _ in rows]


def add(runner: ModelRunner, **adapters: SavedAdapter) -> None:
    for adapter_id, adapter in adapters.items():
        runner.add_adapter(adapter_id, runner.prepare_adapter(adapter.weights))


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected[-1 - NUM_DECODED :], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_rows_of_adapters_and_of_the_base_match_peft_in_one_batch(
    case: str, make_runner: Callable[[Any], ModelRunner], tmp_path: Path
) -> None:
    base, options = CASES[case]
    model_of = partial(make_base, base)
    one = save_adapter(model_of, tmp_path / "one", **options)
    other = save_adapter(model_of, tmp_path / "other", seed=1, **(options | {"r": 3, "rank_pattern": {}}))
    runner = make_runner(model_of())
    bare = run(runner, [BASE_ADAPTER], [text(0)])[0]
    add(runner, one=one, other=other)

    texts = [text(0), text(1, 9), text(0), text(2, 14), text(0)]
    found = run(runner, ["one", BASE_ADAPTER, BASE_ADAPTER, "other", "other"], texts)
    alone = run(runner, ["one"], [text(0)])[0]

    for adapter, logits, tokens in ((one, found[0], 0), (one, alone, 0), (other, found[3], 3), (other, found[4], 0)):
        assert_close(logits, adapter.logits(texts[tokens]))
    for index in (1, 2):
        assert_close(found[index], logits_of(model_of(), texts[index]))
    assert (found[0] - bare).abs().max() > 0.01
    assert (found[0] - found[4]).abs().max() > 0.01


@pytest.mark.parametrize("targets", ["all-linear", "embedding and output layer"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_of_transformers_matches_peft_in_one_batch(name: str, targets: str, tmp_path: Path) -> None:
    model = make_model(name)
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name.rpartition(".")[2] for name, module in model.named_modules() if module in ends]
    options = {"target_modules": targets if targets == "all-linear" else names}
    one, other = (
        save_adapter(partial(make_model, name), tmp_path / str(seed), seed=seed, **options) for seed in range(2)
    )
    runner = TransformersRunner(model, CONFIG)
    add(runner, one=one, other=other)

    found = run(runner, ["one", BASE_ADAPTER, "other", "one"], [text(index) for index in range(4)])

    for index, adapted in enumerate([one.adapted, make_model(name), other.adapted, one.adapted]):
        assert_close(found[index], logits_of(adapted, text(index)))


def test_modules_that_only_some_adapters_have_and_several_ranks(
    make_runner: Callable[[Any], ModelRunner], tmp_path: Path
) -> None:
    model_of = partial(make_base, "tied")
    targets: dict[str, Any] = {
        "q": {"target_modules": ["q_proj"], "r": 1},
        "mlp": {"target_modules": ["up_proj", "down_proj"], "r": 20},
        "head": {"target_modules": ["lm_head"], "r": 5},
        "tokens": {"target_modules": ["embed_tokens"], "r": 2},
        "all": {"target_modules": [*ALL, "lm_head", "embed_tokens"], "r": 17},
    }
    saved = {
        name: save_adapter(model_of, tmp_path / name, seed=seed, **options)
        for seed, (name, options) in enumerate(targets.items())
    }
    runner = make_runner(model_of())
    add(runner, **saved)

    found = run(runner, [*saved, *saved][:8], [text(index) for index in range(8)])

    for index, name in enumerate([*saved, *saved][:8]):
        assert_close(found[index], saved[name].logits(text(index)))


def test_a_rows_adapter_does_not_change_the_bits_of_the_others(
    make_runner: Callable[[Any], ModelRunner], tmp_path: Path
) -> None:
    model_of = partial(make_base, "llama")
    saved = save_adapter(model_of, tmp_path, target_modules=[*ALL, "lm_head", "embed_tokens"])
    runner = make_runner(model_of())
    texts = [text(index) for index in range(4)]
    bare = run(runner, [BASE_ADAPTER] * 4, texts)
    add(runner, one=saved, two=save_adapter(model_of, tmp_path / "two", seed=1, target_modules=ALL))

    mixed = run(runner, ["one", BASE_ADAPTER, "two", BASE_ADAPTER], texts)
    one = run(runner, ["one", "one", "two", "one"], texts)

    assert torch.equal(mixed[1], bare[1])
    assert torch.equal(mixed[3], bare[3])
    torch.testing.assert_close(one[0], mixed[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(one[1], bare[1], atol=0.01)


def test_an_adapter_can_be_removed_and_another_added_under_its_id(
    make_runner: Callable[[Any], ModelRunner], tmp_path: Path
) -> None:
    model_of = partial(make_base, "llama")
    first = save_adapter(model_of, tmp_path / "first", target_modules=ALL)
    second = save_adapter(model_of, tmp_path / "second", seed=1, target_modules=["q_proj"])
    runner = make_runner(model_of())
    bare = run(runner, [BASE_ADAPTER], [text(0)])[0]
    for saved in (first, second, first):
        assert set(runner.adapters) == {BASE_ADAPTER}
        add(runner, it=saved)
        assert set(runner.adapters) == {BASE_ADAPTER, "it"}
        assert_close(run(runner, ["it"], [text(0)])[0], saved.logits(text(0)))
        runner.remove_adapter("it")

    assert torch.equal(run(runner, [BASE_ADAPTER], [text(0)])[0], bare)


def test_many_adapters_come_and_go(make_runner: Callable[[Any], ModelRunner], tmp_path: Path) -> None:
    model_of = partial(make_base, "llama")
    saved = [save_adapter(model_of, tmp_path / str(i), seed=i, target_modules=ALL, r=i + 1) for i in range(3)]
    runner = make_runner(model_of())
    names = [f"adapter {index}" for index in range(20)]
    for index, name in enumerate(names):
        add(runner, **{name: saved[index % 3]})

    found = run(runner, names[-8:], [text(0)] * 8)

    for index, logits in enumerate(found, 12):
        assert_close(logits, saved[index % 3].logits(text(0)))
    for name in names:
        runner.remove_adapter(name)
    assert set(runner.adapters) == {BASE_ADAPTER}


def test_the_ids_are_checked(make_runner: Callable[[Any], ModelRunner], tmp_path: Path) -> None:
    saved = save_adapter(partial(make_base, "llama"), tmp_path, target_modules=["q_proj"])
    runner = make_runner(make_base("llama"))
    add(runner, one=saved)

    for taken in ("one", BASE_ADAPTER):
        with pytest.raises(ValueError, match="already"):
            add(runner, **{taken: saved})
    for missing in ("two", BASE_ADAPTER):
        with pytest.raises(ValueError, match="There is no adapter"):
            runner.remove_adapter(missing)


def test_the_memory_of_an_adapter_is_told(make_runner: Callable[[Any], ModelRunner], tmp_path: Path) -> None:
    saved = save_adapter(partial(make_base, "llama"), tmp_path, target_modules=ALL, r=16)
    prepared = make_runner(make_base("llama")).prepare_adapter(saved.weights)

    assert 0.5 * saved.weights.num_bytes <= prepared.num_bytes <= 2 * saved.weights.num_bytes
    prepared.close()


def matrices(num_in: int, num_out: int) -> LoraMatrices:
    return LoraMatrices(torch.ones(2, num_in), torch.ones(num_out, 2))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (AdapterWeights({"model.norm": matrices(64, 64)}, {}), "model.norm"),
        (AdapterWeights({"model.layers.9.mlp.up_proj": matrices(64, 96)}, {}), r"layers\.9\.mlp\.up_proj"),
        (AdapterWeights({"model.layers.0.mlp.up_proj": matrices(96, 64)}, {}), r"map 96 to 64 .* maps 64 to 96"),
        (AdapterWeights({}, {"lm_head": matrices(64, 64)}), "lm_head"),
    ],
)
def test_what_does_not_fit_is_named(
    weights: AdapterWeights, expected: str, make_runner: Callable[[Any], ModelRunner]
) -> None:
    with pytest.raises(UnsupportedAdapter, match=expected):
        make_runner(make_base("llama")).prepare_adapter(weights)
