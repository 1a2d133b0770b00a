"""Our own kernels for GPUs: on a GPU if there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

HAS_CUDA = torch.cuda.is_available()

if not os.environ.get("CI"):  # in CI everything must be installed
    pytest.importorskip("triton")

from tests.engine_config import runner_config  # noqa: E402
from tests.unit.worker.engine.test_random_choice import SETTINGS, make_choice  # noqa: E402
from tests.unit.worker.engine.tiny_models import from_config  # noqa: E402
from worker.engine.device.cache import BLOCK_TOKENS  # noqa: E402
from worker.engine.device.fused.packing import pack, paired, paired_halves, pieces  # noqa: E402
from worker.engine.device.graphs import PlainSteps, StepCapture  # noqa: E402
from worker.engine.device.runner import DeviceRunner  # noqa: E402
from worker.engine.model_runner import Row, UnsupportedModelError  # noqa: E402
from worker.engine.sampling.fused import pick  # noqa: E402
from worker.engine.sampling.random_sampling import draw  # noqa: E402
from worker.engine.sampling.scored_tokens import NO_TOKEN  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:invalid value|overflow|divide by zero:RuntimeWarning")
on_cuda = pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device here: the interpreter rounds as NumPy does")

DEVICE = torch.device("cuda" if HAS_CUDA else "cpu")
FORMATS = [torch.float16, *([torch.bfloat16] if HAS_CUDA else [])]  # the interpreter cannot multiply bfloat16
CONTEXT = 512 if HAS_CUDA else 160  # two tiles of keys
SEQUENCE_BLOCKS = CONTEXT // BLOCK_TOKENS
_COMMON = {
    "vocab_size": 100,
    "hidden_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 6,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_LLAMA = _COMMON | {"intermediate_size": 104, "num_key_value_heads": 2, "head_dim": 16}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**_LLAMA | {"num_hidden_layers": 2}),
    "llama-untied": lambda: transformers.LlamaConfig(**_LLAMA | {"head_dim": 48, "tie_word_embeddings": False}),
    "qwen2": lambda: transformers.Qwen2Config(**_LLAMA),
    "qwen3": lambda: transformers.Qwen3Config(**_LLAMA),
    "gpt2": lambda: transformers.GPT2Config(**_COMMON),
    "wide": lambda: transformers.LlamaConfig(
        **_LLAMA | {"hidden_size": 1104, "intermediate_size": 1160, "initializer_range": 0.02}
    ),
}

# Models that get a short prompt, because the interpreter is slow for every number. Qwen's own parts see one token each.
SHORT = {"wide"} if HAS_CUDA else {"wide", "qwen2", "qwen3"}


def make_model(name: str, dtype: torch.dtype) -> Any:
    """A model in 32 bits with weights that the format can represent, and random biases and norms."""
    torch.manual_seed(0)
    model = from_config(CONFIGS[name]())
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model.to(dtype).float()


def make_runner(
    model: Any, dtype: torch.dtype, max_num_seqs: int = 6, capturer: StepCapture | None = None
) -> DeviceRunner:
    return DeviceRunner(
        model.config,
        model.state_dict(),
        runner_config(max_num_seqs=max_num_seqs, context_length=CONTEXT),
        device=DEVICE,
        dtype=dtype,
        is_fused=True,
        capturer=capturer,
    )


def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a product have one program for all tokens: each program is slow in the interpreter."""
    if not HAS_CUDA:
        monkeypatch.setattr("worker.engine.device.fused.decoder.MAX_PROGRAMS", 1)


def row(index: int, token_ids: list[int], start: int = 0, *, needs_logits: bool = True) -> Row:
    blocks = tuple(reversed(range(index * SEQUENCE_BLOCKS, (index + 1) * SEQUENCE_BLOCKS)))
    return Row(blocks, tuple(token_ids), start, "base", needs_logits=needs_logits)


def text(index: int, length: int) -> list[int]:
    return [(7 * index + 3 * position + position * position) % 100 for position in range(length)]


def own_logits(model: Any, texts: list[list[int]]) -> Tensor:
    """The model's logits after each text."""
    with torch.inference_mode():
        return torch.stack(
            [
                model(input_ids=torch.tensor([one]), attention_mask=torch.ones(1, len(one))).logits[0, -1]
                for one in texts
            ]
        )


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Equal within the precision of the format."""
    share = 0.02 if dtype is torch.float16 else 0.08
    allowed = share * float(expected.abs().max())
    torch.testing.assert_close(found.float().cpu(), expected, atol=allowed, rtol=0)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_match_the_models_in_prefill_and_decode(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_programs(monkeypatch)
    model = make_model(name, dtype)
    runner = make_runner(model, dtype)
    texts = [text(0, 9 if name in SHORT else 130), text(1, 5)]

    found = [runner.forward([row(index, one) for index, one in enumerate(texts)]).clone()]
    expected = [own_logits(model, texts)]
    found.append(runner.forward([row(0, [7], len(texts[0])), row(2, [9, 8, 7]), row(1, [6], 5)]).clone())
    expected.append(own_logits(model, [[*texts[0], 7], [9, 8, 7], [*texts[1], 6]]))

    assert_close(torch.cat(found), torch.cat(expected), dtype)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_a_long_prompt_is_computed_in_several_steps(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.device.runner.MAX_PROMPT_TOKENS", 16)
    model = make_model("llama", dtype)
    runner = make_runner(model, dtype)
    texts = [text(0, 9), text(1, 35)]

    found = runner.forward([row(index, one) for index, one in enumerate(texts)])

    assert_close(found, own_logits(model, texts), dtype)


def test_attention_gives_the_same_bits_in_one_program_or_one_for_each_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    few_programs(monkeypatch)
    dtype = FORMATS[0]
    runner = make_runner(make_model("llama", dtype), dtype, capturer=PlainSteps())
    runner.forward([row(0, text(0, 130), needs_logits=False)])

    logits = []
    for min_programs in (0, 1000):
        monkeypatch.setattr("worker.engine.device.fused.decoder.MIN_ATTENTION_PROGRAMS", min_programs)
        logits.append(runner.forward([row(0, [7], 130)]).clone())

    assert torch.equal(*logits)


@on_cuda
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "wide"])
def test_a_tokens_bits_depend_only_on_its_text(name: str, dtype: torch.dtype) -> None:
    runner = make_runner(make_model(name, dtype), dtype, max_num_seqs=100)
    long = text(0, 400)
    alone: dict[int, Tensor] = {}
    runner.forward([row(0, long[:100], needs_logits=False)])
    for position in range(100, 400):
        alone[position] = runner.forward([row(0, [long[position]], position)])[0].clone()

    for count in (2, 7, 9, 20, 40, 100):  # decoded beside sequences of other lengths
        runner.forward([row(0, long[:300], needs_logits=False)])
        for index in range(1, count):
            runner.forward([row(index, text(index, 3 * index + 1), needs_logits=False)])
        for position in (300, 301):
            rows = [row(index, [index], 3 * index + 1 + position - 300) for index in range(1, count)]
            logits = runner.forward([*rows, row(0, [long[position]], position)])
            assert torch.equal(logits[-1], alone[position]), (count, position)
    for cuts in ([0, 400], [0, 1, 256, 400], [0, 17, 130, 131, 300, 400]):  # as a prompt in chunks of any size
        for begin, end in pairwise(cuts):
            logits = runner.forward([row(3, text(3, 77)), row(0, long[begin:end], begin)])
        assert torch.equal(logits[-1], alone[399]), cuts


@pytest.mark.parametrize("columns", [16, 64, 80, 576, 1536, 2160, 4864])
def test_a_packed_matrix_contains_every_number_once(columns: int) -> None:
    weight = torch.arange(20 * columns, dtype=torch.float32).view(20, columns) + 1
    packed = pack(weight)

    assert packed.num_tiles == 2
    assert packed.padded_columns % 64 == 0
    assert sorted(packed.weight[packed.weight != 0].tolist()) == weight.flatten().tolist()
    assert len(packed.weight) == 32 * packed.padded_columns
    begins = [begin for begin, _ in pieces(packed.padded_columns)]
    sizes = [128 * blocks or 64 for _, blocks in pieces(packed.padded_columns)]
    assert [end - begin for begin, end in pairwise([*begins, packed.padded_columns])] == sizes


def test_rows_are_paired_eight_by_eight() -> None:
    first, second = torch.arange(16), torch.arange(100, 116)
    assert paired(first, second).tolist() == [*range(8), *range(100, 108), *range(8, 16), *range(108, 116)]
    assert paired_halves(torch.arange(32), 16).tolist() == list(range(32))
    assert paired_halves(torch.arange(32), 32).tolist() == [*range(8), *range(16, 24), *range(8, 16), *range(24, 32)]
    with pytest.raises(ValueError, match="Cannot pair"):
        paired(torch.arange(12), torch.arange(12))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is slow for every number."""
    if not HAS_CUDA:
        monkeypatch.setattr("worker.engine.sampling.fused.BLOCK", 256)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("vocab_size", [50, 20_011 if HAS_CUDA else 701])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_tokens_are_drawn_as_on_a_cpu(settings: dict[str, Any], vocab_size: int) -> None:
    count = 60 if HAS_CUDA else 3
    logits = torch.randn(count, vocab_size, generator=torch.Generator().manual_seed(vocab_size)) * 3
    logits[::2] = logits[::2].round()  # with ties
    choices = [make_choice(index, **settings) for index in range(count)]

    tokens = pick(logits.to(DEVICE), choices)

    # A device rounds exponentials differently, so a point on a boundary may fall to either side of it.
    near = [
        [replace(choice, point=min(choice.point + shift, 1 - 1e-9)) for choice in choices] for shift in (-1e-6, 1e-6)
    ]
    allowed = zip(draw(logits, choices).tolist(), *(draw(logits, one).tolist() for one in near), strict=True)
    assert all(token in ones for token, ones in zip(tokens.tolist(), allowed, strict=True))


@pytest.mark.usefixtures("small_blocks")
def test_zeros_of_both_signs_tie() -> None:
    logits = torch.tensor([[0.0, -1.0, -0.0, 0.0, -2.0, -0.0]]).expand(50, -1).contiguous()
    choices = [make_choice(index, top_k=1) for index in range(len(logits))]

    assert set(pick(logits.to(DEVICE), choices).tolist()) == {0, 2, 3, 5}


@pytest.mark.usefixtures("small_blocks")
def test_rows_of_all_kinds_are_drawn_in_one_launch_and_those_without_usable_logits_reported() -> None:
    logits = torch.randn(5, 500, generator=torch.Generator().manual_seed(0))
    logits[2, 7] = torch.nan
    logits[4] = -torch.inf
    second, fourth = make_choice(1), make_choice(3, temperature=1e-300)
    choices = [None, second, make_choice(2), fourth, None]

    tokens = pick(logits.to(DEVICE), choices)

    drawn = draw(logits[1:2], [second])
    assert tokens.tolist() == [int(logits[0].argmax()), int(drawn), NO_TOKEN, int(logits[3].argmax()), NO_TOKEN]
    greedy = [int(row.argmax()) for row in logits]
    assert pick(logits.to(DEVICE), [None] * 5).tolist() == [greedy[0], greedy[1], NO_TOKEN, greedy[3], NO_TOKEN]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"head_dim": 24}, "heads of 24"),
        ({"intermediate_size": 100}, "100 inner"),
        ({"num_key_value_heads": 1, "num_attention_heads": 24}, "24 query heads"),
    ],
)
def test_sizes_that_the_kernels_do_not_support_are_refused(changes: dict[str, int], problem: str) -> None:
    model = from_config(transformers.LlamaConfig(**_LLAMA | changes))
    with pytest.raises(UnsupportedModelError, match=problem):
        make_runner(model, torch.float16)
