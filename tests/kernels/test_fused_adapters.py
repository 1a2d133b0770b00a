"""Adapters in the fused kernels: on a GPU if there is one, else in Triton's interpreter."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.test_fused import (
    FORMATS,
    HAS_CUDA,
    assert_close,
    few_programs,
    make_model,
    on_cuda,
    own_logits,
    text,
)
from tests.kernels.test_fused import make_runner as make_fused_runner
from tests.kernels.test_fused import row as bare_row
from tests.peft_adapters import ALL, IGNORED_WARNINGS, SavedAdapter, save_adapter
from worker.engine.device.fused.adapters import MAX_ADAPTERS
from worker.engine.device.graphs import Step, StepCapture
from worker.engine.device.runner import DeviceRunner
from worker.engine.lora import AdapterWeights, LoraMatrices
from worker.engine.model_runner import OutOfMemoryError, Row, UnsupportedAdapter
from worker.engine.sequence import BASE_ADAPTER

pytestmark = [
    *IGNORED_WARNINGS,
    pytest.mark.filterwarnings("ignore:invalid value|overflow|divide by zero:RuntimeWarning"),
]
TARGETS: dict[str, list[str]] = {
    "llama": ALL,
    "llama-untied": [*ALL, "lm_head", "embed_tokens"],
    "qwen3": [*ALL, "lm_head"],
    "gpt2": ["c_attn", "c_proj", "c_fc", "wte"],
}


class RecordedLaunches:
    """Replays a step as a CUDA graph does: the same kernels with the same arguments, and no other code."""

    def __init__(self) -> None:
        self.num_captured = 0

    def capture(self, step: Step) -> Step:
        from triton.runtime.interpreter import InterpretedFunction

        launches: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
        run = InterpretedFunction.run

        def record(kernel: Any, *args: Any, **options: Any) -> None:
            launches.append((kernel, args, options))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(InterpretedFunction, "run", record)
            step()
        self.num_captured += 1

        def replay() -> None:
            for kernel, args, options in launches:
                run(kernel, *args, **options)

        return replay


@pytest.fixture(autouse=True)
def _few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    few_programs(monkeypatch)
    if not HAS_CUDA:
        monkeypatch.setattr("worker.engine.device.fused.adapters.RANK_PROGRAMS", 1)


def make_runner(
    model: Any, dtype: torch.dtype, *, max_num_seqs: int = 6, capturer: StepCapture | None = None
) -> DeviceRunner:
    return make_fused_runner(model, dtype, max_num_seqs, capturer or (None if HAS_CUDA else RecordedLaunches()))


def row(index: int, token_ids: list[int], start: int, adapter: str, **options: Any) -> Row:
    return bare_row(index, token_ids, start, **options)._replace(adapter=adapter)


def add(runner: DeviceRunner, **adapters: SavedAdapter) -> None:
    for adapter_id, adapter in adapters.items():
        runner.add_adapter(adapter_id, runner.prepare_adapter(adapter.weights))


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("name", TARGETS)
def test_rows_of_adapters_and_of_the_base_match_peft_in_prefill_and_decode(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model_of = partial(make_model, name, dtype)
    one = save_adapter(model_of, tmp_path / "one", target_modules=TARGETS[name], rank_pattern={r"(v_proj|c_fc)": 20})
    other = save_adapter(model_of, tmp_path / "other", seed=1, target_modules=TARGETS[name][:2], r=3, lora_alpha=20)
    runner = make_runner(model_of(), dtype)
    add(runner, one=one, other=other)
    adapters = ["one", BASE_ADAPTER, "other", "one"]
    models = [one.adapted, model_of(), other.adapted, one.adapted]
    texts = [text(0, 9), text(1, 5), text(2, 3), text(0, 6)]

    rows = zip(texts, adapters, strict=True)
    found = [runner.forward([row(index, one, 0, adapter) for index, (one, adapter) in enumerate(rows)]).clone()]
    texts = [[*one, 7] for one in texts]
    steps = [row(index, [7], len(texts[index]) - 1, adapter) for index, adapter in enumerate(adapters)]
    found.append(runner.forward(steps).clone())

    expected = [own_logits(model, [one[:-1], one]) for model, one in zip(models, texts, strict=True)]
    assert_close(torch.stack(found, dim=1), torch.stack(expected), dtype)
    bare = own_logits(model_of(), texts)
    for index in (0, 2, 3):
        assert (expected[index][1] - bare[index]).abs().max() > 0.1 * bare.abs().max()


@pytest.mark.parametrize("dtype", FORMATS[:1], ids=str)
def test_steps_captured_with_one_adapter_serve_others_that_come_later(dtype: torch.dtype, tmp_path: Path) -> None:
    model_of = partial(make_model, "llama" if HAS_CUDA else "qwen3", dtype)  # qwen3 has one layer
    saved = [
        save_adapter(model_of, tmp_path / str(seed), seed=seed, target_modules=targets, r=rank)
        for seed, (targets, rank) in enumerate([(["q_proj"], 2), (ALL, 40), (["lm_head", "up_proj"], 16)])
    ]
    capturer = RecordedLaunches()
    runner = make_runner(model_of(), dtype, max_num_seqs=4, capturer=None if HAS_CUDA else capturer)

    def decode(adapters: list[str]) -> Tensor:
        """A prompt of the first row alone, then a step of all rows."""
        runner.forward([row(0, text(0, 5), 0, adapters[0], needs_logits=False)])
        steps = [row(index, [7], 5 if index == 0 else 0, adapter) for index, adapter in enumerate(adapters)]
        return runner.forward(steps).clone()

    def expected(*models: Any) -> Tensor:
        texts = [[*text(0, 5), 7], [7], [7], [7]]
        return torch.cat([own_logits(model, [one]) for model, one in zip(models, texts, strict=True)])

    add(runner, first=saved[0])
    decode(["first", "first", "first", "first"])
    captured = set(runner._steps._steps)
    num_captured = capturer.num_captured
    add(runner, second=saved[1], third=saved[2])
    found = decode(["third", "second", BASE_ADAPTER, "first"])
    runner.remove_adapter("first")
    add(runner, fourth=saved[1])  # in the slot of the first
    again = decode(["fourth", "third", "third", BASE_ADAPTER])

    assert set(runner._steps._steps) == captured
    assert capturer.num_captured == num_captured
    first, second, third = (one.adapted for one in saved)
    assert_close(found, expected(third, second, model_of(), first), dtype)
    assert_close(again, expected(second, third, third, model_of()), dtype)


def test_batches_without_adapters_run_the_same_kernels_as_before_the_first_adapter(tmp_path: Path) -> None:
    model_of = partial(make_model, "llama", FORMATS[0])
    runner = make_runner(model_of(), FORMATS[0], max_num_seqs=2)
    prompt = [row(0, text(0, 5), 0, BASE_ADAPTER)]
    before = runner.forward(prompt).clone()
    steps = dict(runner._steps._steps)
    add(runner, one=save_adapter(model_of, tmp_path, target_modules=ALL))

    after = runner.forward(prompt).clone()

    assert torch.equal(before, after)
    assert {kind for kind, _, _ in steps} == {"prompt"}
    assert all(runner._steps._steps[key] is step for key, step in steps.items())


@on_cuda
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("name", TARGETS)
def test_a_tokens_bits_depend_only_on_its_text_and_its_adapter(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model_of = partial(make_model, name, dtype)
    runner = make_runner(model_of(), dtype, max_num_seqs=40)
    long = text(0, 300)

    def alone(adapter: str) -> list[Tensor]:
        runner.forward([row(0, long[:200], 0, adapter, needs_logits=False)])
        return [runner.forward([row(0, [long[at]], at, adapter)])[0].clone() for at in range(200, 300)]

    bare = alone(BASE_ADAPTER)
    for seed in range(3):
        saved = save_adapter(model_of, tmp_path / str(seed), seed=seed, target_modules=TARGETS[name], r=4 + 9 * seed)
        add(runner, **{str(seed): saved})
    adapted = alone("1")

    for count in (2, 9, 40):
        adapters = [("0", "1", "2", BASE_ADAPTER)[index % 4] for index in range(count)]
        for first, expected in ((BASE_ADAPTER, bare), ("1", adapted)):
            adapters[0] = first
            prompts = [long[:250], *(text(index, 3 * index + 1) for index in range(1, count))]
            runner.forward([row(i, one, 0, adapters[i], needs_logits=False) for i, one in enumerate(prompts)])
            rows = [row(i, [i], len(one), adapters[i]) for i, one in enumerate(prompts)]
            rows[0] = row(0, [long[250]], 250, first)
            assert torch.equal(runner.forward(rows)[0], expected[50]), (count, first)
    logits = runner.forward([row(3, text(3, 77), 0, "0"), row(0, long, 0, "1")])
    assert torch.equal(logits[-1], adapted[-1])


@pytest.mark.parametrize("rank", [500, 600])
def test_a_rank_beyond_the_kernels_is_refused(rank: int) -> None:
    runner = make_runner(make_model("llama", FORMATS[0]), FORMATS[0])
    matrices = LoraMatrices(torch.ones(rank, 96), torch.ones(96, rank))
    weights = AdapterWeights({"model.layers.0.self_attn.q_proj": matrices}, {})

    if rank <= 512:
        assert runner.prepare_adapter(weights).num_bytes > 0
    else:
        with pytest.raises(UnsupportedAdapter, match="has rank 608; the GPU kernels compute at most 512"):
            runner.prepare_adapter(weights)


def test_there_are_limited_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner(make_model("llama", FORMATS[0]), FORMATS[0])
    matrices = LoraMatrices(torch.ones(1, 96), torch.ones(96, 1))
    weights = AdapterWeights({"model.layers.0.self_attn.q_proj": matrices}, {})
    for index in range(MAX_ADAPTERS):
        runner.add_adapter(str(index), runner.prepare_adapter(weights))

    with pytest.raises(OutOfMemoryError, match="room for 255"):
        runner.add_adapter("one more", runner.prepare_adapter(weights))
    runner.remove_adapter("7")
    runner.add_adapter("one more", runner.prepare_adapter(weights))
