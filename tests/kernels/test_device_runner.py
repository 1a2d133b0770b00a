"""The runner for accelerators, on the available devices; a CPU computes the same without graphs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from common.errors import InternalError
from tests.engine_config import runner_config
from tests.fakes import ByteTokenizer
from tests.native.conftest import MODELS as NATIVE_MODELS
from tests.native.conftest import make_model as make_native_model
from tests.native.conftest import prompt as random_prompt
from tests.unit.worker.engine.model_runs import PROMPTS, Run, generate, greedy, seeded
from tests.unit.worker.engine.tiny_models import CONTEXT, make_model
from worker.engine.device import steps
from worker.engine.device.cache import BLOCK_TOKENS
from worker.engine.device.graphs import Step, StepCapture
from worker.engine.device.runner import DeviceRunner
from worker.engine.device.steps import doublings
from worker.engine.lora import AdapterWeights, LoraMatrices
from worker.engine.model_runner import CacheTooSmall, DeviceLostError, OutOfMemoryError, Row, UnsupportedModelError
from worker.engine.runners.check import RunnerCheck
from worker.engine.sequence import Sequence

ARCHITECTURES = ["llama", "mistral", "gpt2", "qwen2", "qwen3"]
IS_THERE = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.skipif(not IS_THERE[name], reason="not here")) for name in IS_THERE]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(params=[False, True], ids=["waiting", "asynchronous"])
def can_overlap(request: pytest.FixtureRequest, device: torch.device) -> bool:
    if device.type == "mps" and request.param:
        pytest.skip("its tokens are waited for")
    return bool(request.param)


def make_runner(
    model: Any,
    device: torch.device | None = None,
    *,
    max_num_seqs: int = 8,
    can_overlap: bool = False,
    capturer: StepCapture | None = None,
    kv_bytes: int | None = None,
) -> DeviceRunner:
    runner = DeviceRunner(
        model.config,
        model.state_dict(),
        runner_config(max_num_seqs=max_num_seqs, context_length=CONTEXT, kv_bytes=kv_bytes),
        device=device or torch.device("cpu"),
        dtype=model.dtype,
        capturer=capturer,
    )
    runner.can_overlap = can_overlap
    return runner


def own_logits(model: Any, token_ids: list[int]) -> Tensor:
    """The model's logits after the last of the tokens."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([token_ids])).logits[0, -1]


SEQUENCE_BLOCKS = CONTEXT // BLOCK_TOKENS


def blocks_of(index: int) -> tuple[int, ...]:
    """All blocks that a sequence may need, in arbitrary order."""
    return tuple(reversed(range(index * SEQUENCE_BLOCKS, (index + 1) * SEQUENCE_BLOCKS)))


def row(
    index: int, token_ids: list[int], start: int = 0, *, needs_logits: bool = True, source: int | None = None
) -> Row:
    """A part of the sequence of that index."""
    return Row(blocks_of(index), tuple(token_ids), start, "base", needs_logits=needs_logits, source=source)


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.float().cpu(), expected, atol=1e-4, rtol=0)


# Results


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tokens_and_logits_match_generate_alone_and_in_a_mixed_batch(
    name: str, device: torch.device, can_overlap: bool
) -> None:
    model = make_model(name)
    expected = [generate(model, prompt) for prompt in PROMPTS]
    options = {"device": device, "can_overlap": can_overlap}

    # Three of five sequences run at once: they start at different steps, and memory is reused.
    sequences = [greedy(prompt, prompt) for prompt in PROMPTS]
    together = Run(make_runner(model, max_num_seqs=3, **options), sequences, prefill_chunk=7)
    runs = [together, *(Run(make_runner(model, **options), [greedy(prompt, prompt)]) for prompt in PROMPTS)]

    for prompt, (token_ids, logits) in zip(PROMPTS, expected, strict=True):
        for run in (run for run in runs if run.outputs.of(prompt)):
            assert run.token_ids(prompt) == token_ids
            assert_close(run.sampler.logits_of(prompt, len(token_ids)), logits)


@pytest.mark.parametrize("name", NATIVE_MODELS)
def test_every_supported_part_of_a_model_is_computed(name: str, device: torch.device) -> None:
    model = make_native_model(name)  # with random biases and norms
    runner = make_runner(model, device)
    text = list(random_prompt(100))
    runner.forward([row(2, text[:70], needs_logits=False)])

    logits = [runner.forward([row(2, text[70:97], 70)])[0].clone()]
    logits += [runner.forward([row(2, [text[position]], position)])[0].clone() for position in range(97, 100)]

    assert_close(torch.stack(logits), torch.stack([own_logits(model, text[:end]) for end in (97, 98, 99, 100)]))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_sequences_grow_through_all_numbers_of_keys_to_the_contexts_end(
    name: str, device: torch.device, can_overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "MIN_KEYS", 16)
    model = make_model(name)
    runner = make_runner(model, device, can_overlap=can_overlap)
    long, full = "many words " * 3, "x" * (CONTEXT - 9)
    expected = {prompt: generate(model, prompt, 45)[0] for prompt in ("Hi", long)}
    expected[full] = generate(model, full, 9)[0]

    run = Run(runner, [greedy(prompt, prompt, 45) for prompt in expected], prefill_chunk=20)

    assert {prompt: run.token_ids(prompt) for prompt in expected} == expected
    assert {num_keys for kind, _, num_keys in runner._steps._steps if kind == "decode"} >= {64, 128, CONTEXT}


def test_steps_are_padded_to_the_next_power_of_two_of_rows(device: torch.device, can_overlap: bool) -> None:
    model = make_model("llama")
    lengths = [3, 6, 9, 12, 15, 18]
    expected = [generate(model, PROMPTS[index % 5], length)[0] for index, length in enumerate(lengths)]
    runner = make_runner(model, device, max_num_seqs=6, can_overlap=can_overlap)

    run = Run(runner, [greedy(str(index), PROMPTS[index % 5], length) for index, length in enumerate(lengths)])

    assert [run.token_ids(str(index)) for index in range(6)] == expected
    assert {num_rows for kind, num_rows, _ in runner._steps._steps if kind == "decode"} == {1, 2, 4, 6}


def test_seeded_tokens_are_the_same_alone_and_in_any_batch(device: torch.device, can_overlap: bool) -> None:
    model = make_model("llama")
    options = {"top_p": 0.95, "repetition_penalty": 1.1}
    runner = make_runner(model, device, max_num_seqs=5, can_overlap=can_overlap)

    together = Run(runner, [seeded(str(seed), seed, **options) for seed in range(12)], prefill_chunk=9)

    alone = [Run(make_runner(model, device), [seeded("a", seed, **options)]).token_ids("a") for seed in range(12)]
    assert [together.token_ids(str(seed)) for seed in range(12)] == alone


def test_a_chats_next_turn_reuses_its_last_ones_cache_despite_others_in_between(
    device: torch.device, can_overlap: bool
) -> None:
    model = make_model("llama")
    runner = make_runner(model, device, max_num_seqs=12, can_overlap=can_overlap)  # a quarter of them stays cached
    first = greedy("first", "a first turn of some length")
    run = Run(runner, [first])
    run.run([greedy(f"other {index}", PROMPTS[index], 12) for index in range(2)])  # decode steps beside cached blocks
    starts: list[int] = []
    forward = runner.forward

    def watched(rows: list[Row], previous: Tensor | None = None) -> Tensor:
        starts.append(rows[0].start)
        return forward(rows, previous)

    runner.forward = watched  # type: ignore[method-assign]
    prompt_ids = [*first.all_ids(), *ByteTokenizer().encode(" and a second")]
    run.run([Sequence("second", prompt_ids, first.params)])

    assert starts[0] >= len(first.all_ids()) - 1, "the first turn is not computed again"
    found = run.sampler.logits_of("second", 20)
    ids = prompt_ids + run.token_ids("second")
    assert_close(found, torch.stack([own_logits(model, ids[: len(prompt_ids) + count]) for count in range(len(found))]))


def test_rows_of_all_kinds_in_one_forward_give_their_logits_in_order(device: torch.device) -> None:
    model = make_model("qwen2")
    runner = make_runner(model, device)
    texts = [ByteTokenizer().encode(text) for text in ("ab", "c" * 30, "de", "fgh" * 5, "i" * 40)]
    for block in (0, 2):
        runner.forward([row(block, texts[block][:1], needs_logits=False)])

    logits = runner.forward(
        [
            row(4, texts[4]),
            row(2, texts[2][1:], 1),
            row(1, texts[1]),
            row(5, texts[1][:9], needs_logits=False),
            row(0, texts[0][1:], 1),
            row(3, texts[3]),
        ]
    )

    assert_close(logits, torch.stack([own_logits(model, texts[block]) for block in (4, 2, 1, 0, 3)]))
    assert runner.forward([row(6, [1, 2], needs_logits=False)]).shape == (0, runner.vocab_size)


def test_padded_decode_steps_do_not_change_the_cache_of_idle_sequences(device: torch.device) -> None:
    model = make_model("llama")
    runner = make_runner(model, device, max_num_seqs=4)
    kept, other = ByteTokenizer().encode("kept for later"), ByteTokenizer().encode("another text")
    runner.forward([row(1, kept[:-1], needs_logits=False)])
    for block in (0, 2, 3):  # a step of four rows, of which the second is idle
        runner.forward([row(block, other[:5], needs_logits=False)])
    for position in range(5, len(other)):
        runner.forward([row(block, [other[position]], position) for block in (0, 2, 3)])

    assert_close(runner.forward([row(1, kept[-1:], len(kept) - 1)])[0], own_logits(model, kept))
    for block in (3, 0, 2):  # each alone
        logits = runner.forward([row(block, [7], len(other))])
        assert_close(logits[0], own_logits(model, [*other, 7]))


def test_the_beginning_of_a_block_can_be_copied(device: torch.device) -> None:
    model = make_model("gpt2")
    runner = make_runner(model, device)
    text = ByteTokenizer().encode("the beginning is the same")
    runner.forward([row(3, [9] * 60, needs_logits=False)])
    runner.forward([row(0, text, needs_logits=False)])

    runner.copy_block(blocks_of(0)[0], blocks_of(3)[0], 10)
    changed = [*text[:10], 1, 2, 3]
    logits = runner.forward([row(3, changed[10:], 10), row(0, [4], len(text))])

    assert_close(logits, torch.stack([own_logits(model, changed), own_logits(model, [*text, 4])]))


def test_a_decode_row_takes_its_token_from_the_last_samples(device: torch.device) -> None:
    model = make_model("llama")
    runner = make_runner(model, device)
    texts = [[1, 2, 3], [4, 5], [6, 7]]
    for block, text in enumerate(texts):
        runner.forward([row(block, text, needs_logits=False)])
    previous = torch.tensor([50, 60], device=device)
    rows = [
        row(0, [0], 3, source=1),
        row(1, [70], 2),
        row(2, [0], 2, source=0),
    ]

    logits = runner.forward(rows, previous)

    tokens = (60, 70, 50)
    assert_close(
        logits, torch.stack([own_logits(model, [*text, token]) for text, token in zip(texts, tokens, strict=True)])
    )
    with pytest.raises(ValueError, match="samples that were not given"):
        runner.forward(rows)


def test_a_token_from_the_last_samples_goes_through_the_adapters_embedding(device: torch.device) -> None:
    runner = make_runner(make_model("gpt2"), device)
    generator = torch.Generator().manual_seed(0)
    embedding = LoraMatrices(torch.randn(2, 258, generator=generator), torch.randn(32, 2, generator=generator))
    runner.add_adapter("one", runner.prepare_adapter(AdapterWeights({}, {"transformer.wte": embedding})))

    def decode(token_id: int, *, source: int | None, adapter: str) -> Tensor:
        for block, text in enumerate([[1, 2, 3], [4, 5]]):
            runner.forward([row(block, text, needs_logits=False)])
        step = [row(0, [token_id], 3, source=source)._replace(adapter=adapter), row(1, [70], 2)]
        return runner.forward(step, None if source is None else torch.tensor([50, 60], device=device)).clone()

    expected = decode(60, source=None, adapter="one")
    found = decode(0, source=1, adapter="one")

    assert torch.equal(found, expected)
    bare = decode(60, source=None, adapter="base")
    assert torch.equal(found[1], bare[1])
    assert not torch.allclose(found[0], bare[0], atol=0.1)


@pytest.mark.parametrize("is_copied", [False, True])
def test_a_sequence_with_nan_harms_neither_its_neighbours_nor_the_next_user_of_its_blocks(
    device: torch.device, can_overlap: bool, is_copied: bool
) -> None:
    model = make_model("llama")
    neighbour, bad, following = "x" * 50, "y" * 20 + "~" + "y" * 9, "xxxxxxxxxxxx" if is_copied else "Hi"
    expected = {prompt: generate(model, prompt)[0] for prompt in (neighbour, following)}
    with torch.no_grad():
        model.get_input_embeddings().weight[ord("~")] = math.nan
    runner = make_runner(model, device, max_num_seqs=2, can_overlap=can_overlap)

    run = Run(runner, [greedy(prompt, prompt) for prompt in (neighbour, bad, following)])

    assert isinstance(run.outputs.finals(bad)[0].error, InternalError)
    assert run.token_ids(neighbour) == expected[neighbour]
    assert run.token_ids(following) == expected[following]


# Captured steps


class FakeGraphs:
    """Runs every step twice when it is captured, as a graph's warm-up and first replay do, and counts."""

    def __init__(self) -> None:
        self.num_captured = 0
        self.num_replayed = 0

    def capture(self, step: Step) -> Step:
        self.num_captured += 1
        step()

        def replay() -> None:
            self.num_replayed += 1
            step()

        return replay


def test_every_shape_is_captured_once_and_then_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MIN_KEYS", 16)
    model = make_model("llama")
    graphs = FakeGraphs()
    runner = make_runner(model, max_num_seqs=4, capturer=graphs)
    expected = [generate(model, prompt)[0] for prompt in PROMPTS]

    run = Run(runner, [greedy(prompt, prompt) for prompt in PROMPTS])
    num_replayed = graphs.num_replayed
    run.run([greedy(f"again {prompt}", prompt) for prompt in PROMPTS])

    assert [run.token_ids(prompt) for prompt in PROMPTS] == expected
    assert [run.token_ids(f"again {prompt}") for prompt in PROMPTS] == expected
    assert 3 < len(runner._steps._steps) == graphs.num_captured < num_replayed < graphs.num_replayed


def test_the_steps_that_are_needed_first_are_captured_in_advance(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(steps, "MIN_KEYS", 64)
    monkeypatch.setattr(steps, "MAX_WARM_KEYS", 128)
    graphs = FakeGraphs()
    runner = make_runner(make_model("llama"), max_num_seqs=3, capturer=graphs)

    with caplog.at_level("INFO"):
        runner.warm_up()

    assert set(runner._steps._steps) == {("decode", rows, keys) for rows in (1, 2, 3) for keys in (64, 128)}
    assert graphs.num_captured == 6
    assert "Prepared 6 steps" in caplog.text
    assert not runner._cache.keys[:, : runner.num_blocks].any(), "a warm-up writes only to unused memory"
    runner.forward([row(0, [1, 2], needs_logits=False)])
    runner.forward([row(0, [3], 2)])
    assert graphs.num_captured == 6


def test_capturing_steps_does_not_change_earlier_results() -> None:
    model = make_model("llama")
    runner = make_runner(model, max_num_seqs=3, capturer=FakeGraphs())
    texts = [[index + 1] * 50 for index in range(3)]
    runner.forward([row(index, text, needs_logits=False) for index, text in enumerate(texts)])
    before = runner._cache.keys.clone(), runner._cache.values.clone()

    runner.warm_up()

    kept = slice(0, runner.num_blocks)
    assert torch.equal(runner._cache.keys[:, kept], before[0][:, kept])
    assert torch.equal(runner._cache.values[:, kept], before[1][:, kept])


class Operations(TorchDispatchMode):
    """Records the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_step_copies_nothing_from_the_host_and_waits_for_nothing(name: str) -> None:
    steps = make_runner(make_model(name))._steps
    with torch.inference_mode(), Operations() as operations:
        steps._decode(4, 256)

    assert {"mm", "bmm", "index_put_"} <= operations.names
    # A tensor made of Python numbers, a copy to another device, a number or a shape that depends on values.
    assert not operations.names & {"lift_fresh", "_to_copy", "_local_scalar_dense", "nonzero", "scalar_tensor"}


def test_a_context_shorter_than_the_fewest_keys_is_read_whole() -> None:
    assert doublings(256, 64) == [64]
    assert doublings(256, 1000) == [256, 512, 1000]
    assert doublings(1, 1) == [1]


# Limits and failures


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("max_num_seqs", [1, 4])
def test_every_architecture_passes_the_check_at_load(name: str, max_num_seqs: int, device: torch.device) -> None:
    model = make_model(name).to(device)

    RunnerCheck(model).check(make_runner(model, device, max_num_seqs=max_num_seqs))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_number_formats_pass_the_check_too(name: str, dtype: torch.dtype, device: torch.device) -> None:
    model = make_model(name).to(device, dtype)

    RunnerCheck(model).check(make_runner(model, device))


@pytest.mark.parametrize("name", ["mistral-sliding", "qwen2-sliding", "gemma2"])
def test_models_with_other_parts_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="The server's own kernels do not support"):
        make_runner(make_model(name))


def test_a_missing_tensor_and_one_of_another_shape_are_named() -> None:
    model = make_model("llama")
    tensors = model.state_dict()
    options: dict[str, Any] = {"device": model.device, "dtype": model.dtype}
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(5, 32)
    with pytest.raises(UnsupportedModelError, match=r"gate_proj has the shape \(69, 32\)"):
        DeviceRunner(model.config, tensors, runner_config(), **options)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(UnsupportedModelError, match=r"no tensor model\.layers\.1\.mlp\.up_proj\.weight"):
        DeviceRunner(model.config, tensors, runner_config(), **options)


def test_a_context_beyond_the_learned_positions_is_refused() -> None:
    model = make_model("gpt2")
    with pytest.raises(UnsupportedModelError, match="512 positions, not 513"):
        DeviceRunner(
            model.config,
            model.state_dict(),
            runner_config(context_length=CONTEXT + 1),
            device=model.device,
            dtype=model.dtype,
        )


def test_the_cache_memory_limits_the_number_of_blocks() -> None:
    model = make_model("llama")
    one_sequence = 2 * 2 * 2 * 8 * CONTEXT * 4  # keys and values, layers, heads, head size, tokens, bytes

    assert make_runner(model, kv_bytes=3 * one_sequence).num_blocks == 3 * SEQUENCE_BLOCKS
    with pytest.raises(CacheTooSmall):
        make_runner(model, kv_bytes=one_sequence - 1)


@pytest.mark.parametrize(
    "bad",
    [row(0, []), row(0, [258]), row(0, [-1]), row(0, [1, 2], CONTEXT - 1)],
    ids=["empty", "large", "small", "long"],
)
def test_rows_that_would_read_beyond_a_table_never_reach_the_device(bad: Row) -> None:
    runner = make_runner(make_model("llama"))
    with pytest.raises(ValueError, match=r"fit the context|not in the vocabulary"):
        runner.forward([row(1, [1, 2]), bad])


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (torch.AcceleratorError("an illegal memory access was encountered"), DeviceLostError),
        (torch.OutOfMemoryError("out of memory\nmany details"), OutOfMemoryError),
    ],
    ids=["fault", "memory"],
)
def test_device_failures_are_distinguished(
    raised: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_runner(make_model("llama"))

    def fail(*_: object) -> Tensor:
        raise raised

    monkeypatch.setattr(runner._decoder, "embed", fail)
    with pytest.raises(expected, match=r"^(an illegal memory access was encountered|out of memory)$"):
        runner.forward([row(0, [1, 2])])
