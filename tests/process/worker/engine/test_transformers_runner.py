from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers

from common.errors import InternalError
from tests.engine_config import runner_config
from tests.unit.worker.engine.model_runs import PROMPTS, Run, generate, greedy, seeded
from tests.unit.worker.engine.tiny_models import CONFIGS, CONTEXT, from_config, make_model
from worker.engine.model_runner import DeviceLostError, Row, UnsupportedModelError
from worker.engine.runners.check import RunnerCheck
from worker.engine.runners.transformers.runner import TransformersRunner
from worker.engine.sequence import FinishReason, Sequence


def run(model: Any, sequences: list[Sequence], *, max_num_seqs: int = 8, prefill_chunk: int = 256) -> Run:
    runner = TransformersRunner(model, runner_config(max_num_seqs=max_num_seqs, context_length=CONTEXT))
    return Run(runner, sequences, prefill_chunk=prefill_chunk)


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_and_logits_match_generate_alone_and_in_a_mixed_batch(name: str) -> None:
    model = make_model(name)
    expected = [generate(model, prompt) for prompt in PROMPTS]
    assert len({tuple(token_ids) for token_ids, _ in expected}) == len(PROMPTS)

    # Three of five sequences run at once: they start at different steps, and memory is reused.
    together = run(model, [greedy(prompt, prompt) for prompt in PROMPTS], max_num_seqs=3, prefill_chunk=7)
    runs = [together, *(run(model, [greedy(prompt, prompt)]) for prompt in PROMPTS)]

    for prompt, (token_ids, logits) in zip(PROMPTS, expected, strict=True):
        for one in (one for one in runs if one.outputs.of(prompt)):
            assert one.token_ids(prompt) == token_ids
            torch.testing.assert_close(torch.stack(one.sampler.logits[prompt]), logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_the_cache_grows_with_the_sequences_and_keeps_its_contents(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.runners.transformers.cache.MIN_POSITIONS", 8)
    model = make_model(name)
    long = "many words " * 3  # grows the cache at its prefill, and once more while it decodes
    expected = {prompt: generate(model, prompt, 45)[0] for prompt in ("Hi", long)}

    result = run(model, [greedy("Hi", "Hi", 45), greedy(long, long, 45)], prefill_chunk=20)

    assert result.token_ids("Hi") == expected["Hi"]
    assert result.token_ids(long) == expected[long]


def test_memory_is_only_allocated_for_sequences_and_lengths_in_use() -> None:
    result = run(make_model("llama"), [greedy(str(index), "Hi") for index in range(3)], max_num_seqs=64)

    pools = [pool for pools in result.runner._cache._pools for pool in pools]
    assert {tuple(pool.shape) for pool in pools} == {(4, 2, 256, 8)}


def test_seeded_tokens_are_the_same_alone_and_in_any_batch() -> None:
    model = make_model("llama")
    options = {"top_p": 0.95, "repetition_penalty": 1.1}

    together = run(model, [seeded(str(seed), seed, **options) for seed in range(12)], max_num_seqs=5, prefill_chunk=9)

    alone = [run(model, [seeded("a", seed, **options)]).token_ids("a") for seed in range(12)]
    assert [together.token_ids(str(seed)) for seed in range(12)] == alone


@pytest.mark.parametrize("make", [greedy, seeded], ids=["greedy", "seeded"])
def test_a_resumed_sequence_gets_the_same_tokens(make: Any) -> None:
    model = make_model("qwen2-sliding")
    argument = PROMPTS[1] if make is greedy else 1
    whole = run(model, [make("a", argument)]).outputs.of("a")
    neighbours = [seeded(f"other {seed}", seed) for seed in range(3)]

    for num_seen in range(1, len(whole), 4):
        continued = make("a", argument)
        continued.output_ids = [token for output in whole[:num_seen] for token in output.token_ids]
        continued.emitted_text = "".join(output.text for output in whole[:num_seen])
        result = run(model, [*neighbours, continued], prefill_chunk=11)
        neighbours = [seeded(f"other {seed}", seed) for seed in range(3)]

        assert result.outputs.of("a") == whole[num_seen:]


def test_a_sequence_with_nan_harms_neither_its_neighbours_nor_the_next_user_of_its_memory() -> None:
    model = make_model("llama")
    # The next sequence is shorter than the bad one, and its neighbour longer.
    neighbour, bad, following = "x" * 50, "y" * 20 + "~" + "y" * 9, "Hi"
    expected = {prompt: generate(model, prompt)[0] for prompt in (neighbour, following)}
    with torch.no_grad():
        model.get_input_embeddings().weight[ord("~")] = math.nan

    result = run(model, [greedy(prompt, prompt) for prompt in (neighbour, bad, following)], max_num_seqs=2)

    assert isinstance(result.outputs.finals(bad)[0].error, InternalError)
    assert result.token_ids(neighbour) == expected[neighbour]
    assert result.token_ids(following) == expected[following]


def test_a_failed_forward_leaves_the_runner_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")
    forward, num_calls = model.model.layers[1].forward, 0

    def fail_once(*args: Any, **options: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 3:
            raise RuntimeError("out of memory")
        return forward(*args, **options)

    monkeypatch.setattr(model.model.layers[1], "forward", fail_once)
    result = run(model, [greedy("a", "Hi"), greedy("b", "Hi")], max_num_seqs=1)

    assert result.outputs.finals("a")[0].finish_reason is FinishReason.ERROR
    assert result.token_ids("b") == generate(model, "Hi")[0]


def test_a_device_fault_is_distinguished_from_a_failed_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("gpt2")
    runner = TransformersRunner(model, runner_config(max_num_seqs=1, context_length=CONTEXT))

    def fault(**_: Any) -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(model, "forward", fault)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        runner.forward([Row((0,), (1, 2), 0, "base", needs_logits=True)])


def test_rows_that_need_no_logits_give_none() -> None:
    runner = TransformersRunner(make_model("gpt2"), runner_config(max_num_seqs=2, context_length=CONTEXT))
    rows = [Row((0,), (1, 2), 0, "base", needs_logits=False), Row((1,), (1,), 0, "base", needs_logits=True)]

    assert runner.forward(rows).shape == (1, runner.vocab_size)
    assert runner.forward(rows[:1]).shape == (0, runner.vocab_size)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("max_num_seqs", [1, 4])
def test_every_architecture_passes_the_check_at_load(name: str, max_num_seqs: int) -> None:
    model = make_model(name)

    RunnerCheck(model).check(
        TransformersRunner(model, runner_config(max_num_seqs=max_num_seqs, context_length=CONTEXT))
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_check_at_load_allows_for_short_number_formats(dtype: torch.dtype) -> None:
    model = make_model("llama").to(dtype)

    RunnerCheck(model).check(TransformersRunner(model, runner_config(max_num_seqs=4, context_length=CONTEXT)))


UNSUPPORTED = {
    "positions from a 2D mask": lambda: transformers.BloomConfig(vocab_size=258, hidden_size=32, n_layer=2, n_head=4),
    "no keys and values": lambda: transformers.MambaConfig(vocab_size=258, hidden_size=32, num_hidden_layers=2),
    "another kind of layer": lambda: transformers.Lfm2Config(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        layer_types=["conv", "full_attention"],
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_model_that_the_cache_cannot_hold_is_refused_at_load(name: str) -> None:
    model = from_config(UNSUPPORTED[name]())

    with pytest.raises(UnsupportedModelError, match=model.config.model_type):
        RunnerCheck(model).check(TransformersRunner(model, runner_config(max_num_seqs=2, context_length=CONTEXT)))


def test_a_model_with_other_results_in_a_batch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")
    runner = TransformersRunner(model, runner_config(max_num_seqs=2, context_length=CONTEXT))
    monkeypatch.setattr(runner, "forward", lambda rows: torch.zeros(len(rows), runner.vocab_size))

    with pytest.raises(UnsupportedModelError, match="gives different results"):
        RunnerCheck(model).check(runner)
