"""Properties that need a CUDA device: steps do not wait for it, and the results are the same."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from common.jobs.sampling import SamplingParams
from tests.kernels.test_device_runner import make_runner, row
from tests.peft_adapters import IGNORED_WARNINGS, save_adapter
from tests.unit.worker.engine.model_runs import PROMPTS, Run, generate, greedy
from tests.unit.worker.engine.test_random_choice import SETTINGS, make_choice
from tests.unit.worker.engine.tiny_models import make_model
from worker.engine.device.graphs import PlainSteps
from worker.engine.sampling.random_sampling import draw
from worker.engine.sampling.sampler import Sampler
from worker.engine.sequence import Sequence

pytestmark = [pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"), *IGNORED_WARNINGS]

CUDA = torch.device("cuda")
GREEDY = SamplingParams(seed=0, temperature=0.0)
PARAMS: dict[str, list[SamplingParams]] = {
    "greedy": [GREEDY] * 4,
    "random": [replace(GREEDY, seed=seed, temperature=1.0) for seed in range(4)],
    "filtered": [replace(GREEDY, temperature=1.0, top_k=5), replace(GREEDY, temperature=0.7, top_p=0.9)] * 2,
    "mixed": [GREEDY, replace(GREEDY, temperature=1.0), replace(GREEDY, temperature=1.0, top_k=9, min_p=0.1), GREEDY],
    "told": [replace(GREEDY, logprobs=3), GREEDY, replace(GREEDY, temperature=1.0, logprobs=0), GREEDY],
    "edited": [replace(GREEDY, logit_bias={5: 2.0}), replace(GREEDY, min_new_tokens=9), GREEDY, GREEDY],
}


@contextmanager
def nobody_waits() -> Iterator[None]:
    """Operations that would wait for the device raise instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", PARAMS)
def test_steps_launched_without_waiting_give_the_same_results_as_one_by_one(name: str, kind: str) -> None:
    model = make_model(name)
    sampler = Sampler()
    texts = [[index + 1, 7, 9, 11, 13] for index in range(4)]

    def tokens(*, is_waiting: bool) -> list[Any]:
        runner = make_runner(model, CUDA, max_num_seqs=6)
        runner.warm_up()
        runner.copy_block(0, 1, 4)  # libraries load their kernels at the first call
        sequences = [Sequence(str(index), texts[index], params) for index, params in enumerate(PARAMS[kind])]
        for sequence in sequences:
            sequence.eos_token_ids = frozenset({256})
        samples = [sampler.start(runner.forward([row(5 - index, texts[index]) for index in range(4)]), sequences)]
        samples[0].fetch()

        def launch(step: int) -> None:
            for sequence in sequences:
                sequence.num_pending = step
            rows = [row(5 - index, [0], 4 + step, source=index) for index in range(4)]
            samples.append(sampler.start(runner.forward(rows, samples[-1].tokens), sequences))

        launch(1)
        samples[-1].fetch()
        if is_waiting:
            for step in range(2, 12):
                launch(step)
                samples[-1].fetch()
        else:
            with nobody_waits():
                for step in range(2, 12):
                    launch(step)
        return [one.fetch() for one in samples]

    assert tokens(is_waiting=False) == tokens(is_waiting=True)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_tokens_are_drawn_as_on_a_cpu(settings: dict[str, Any]) -> None:
    logits = torch.randn(60, 20_011, generator=torch.Generator().manual_seed(0)) * 3
    choices = [make_choice(index, **settings) for index in range(60)]

    assert draw(logits.to(CUDA), choices).tolist() == draw(logits, choices).tolist()


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_captured_steps_compute_the_same_as_plain_ones(name: str, dtype: torch.dtype) -> None:
    model = make_model(name).to(dtype)
    found = []
    for capturer in (None, PlainSteps()):
        runner = make_runner(model, CUDA, max_num_seqs=5, capturer=capturer)
        for block in (0, 2, 3):
            runner.forward([row(block, [block + 1, 5, 6], needs_logits=False)])
        logits = [
            runner.forward([row(block, [position], position) for block in (0, 2, 3)]).clone()
            for position in range(3, 40)
        ]
        found.append(torch.stack(logits).float())

    torch.testing.assert_close(found[0], found[1], atol=1e-4 if dtype is torch.float32 else 0.05, rtol=0)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_captured_steps_with_adapters_compute_the_same_as_plain_ones(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    targets = {"target_modules": "all-linear"}
    saved = [save_adapter(partial(make_model, name), tmp_path / str(seed), seed=seed, **targets) for seed in range(2)]
    found = []
    for capturer in (None, PlainSteps()):
        runner = make_runner(make_model(name).to(dtype), CUDA, max_num_seqs=5, capturer=capturer)
        for adapter_id, one in zip(("a", "b"), saved, strict=True):
            runner.add_adapter(adapter_id, runner.prepare_adapter(one.weights))
        blocks = {0: "a", 2: "base", 3: "b"}
        for block, adapter in blocks.items():
            runner.forward([row(block, [block + 1, 5, 6], needs_logits=False)._replace(adapter=adapter)])
        steps = [
            [row(block, [position], position)._replace(adapter=adapter) for block, adapter in blocks.items()]
            for position in range(3, 40)
        ]
        found.append(torch.stack([runner.forward(rows).clone() for rows in steps]).float())

    torch.testing.assert_close(found[0], found[1], atol=1e-4 if dtype is torch.float32 else 0.05, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_with_adapters_do_not_wait_for_the_device(dtype: torch.dtype, tmp_path: Path) -> None:
    saved = save_adapter(partial(make_model, "llama"), tmp_path, target_modules=["q_proj", "up_proj", "embed_tokens"])
    runner = make_runner(make_model("llama").to(dtype), CUDA, max_num_seqs=4)
    runner.add_adapter("a", runner.prepare_adapter(saved.weights))

    def step(position: int) -> None:
        runner.forward([row(0, [7], position)._replace(adapter="a"), row(1, [7], position)])
        runner.forward([row(2, [7, 8, 9])._replace(adapter="a"), row(3, [7, 8])])

    step(0)  # libraries load their kernels at the first call
    with nobody_waits():
        for position in range(1, 5):
            step(position)


def test_steps_can_be_captured_while_other_threads_use_the_device() -> None:
    model, is_done = make_model("llama"), threading.Event()

    def ask() -> None:
        while not is_done.is_set():
            torch.cuda.mem_get_info(CUDA)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        runner = make_runner(model, CUDA, can_overlap=True)
        runner.warm_up()
    finally:
        is_done.set()
        asking.join()

    run = Run(runner, [greedy(prompt, prompt) for prompt in PROMPTS])
    assert [run.token_ids(prompt) for prompt in PROMPTS] == [generate(model, prompt)[0] for prompt in PROMPTS]
