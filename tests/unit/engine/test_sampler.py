from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from common.errors import InternalError
from common.sampling import SamplingParams
from worker.engine.sampler import Sampler, uniform
from worker.engine.sequence import Sequence

VOCAB_SIZE = 50
GREEDY = SamplingParams(seed=0, temperature=0.0)


def make_sequence(params: SamplingParams, prompt_ids: list[int] | None = None, num_output_tokens: int = 0) -> Sequence:
    return Sequence("a", prompt_ids or [1, 2, 3], params, output_ids=[4] * num_output_tokens)


def random_logits(num_rows: int, seed: int = 0) -> Tensor:
    return torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(seed)) * 3


def sample(logits: Tensor, sequences: list[Sequence]) -> list[int]:
    tokens = Sampler().sample(logits, sequences)
    assert all(isinstance(token, int) for token in tokens)
    return tokens  # type: ignore[return-value]


def expected_distribution(logits: Tensor, params: SamplingParams, seen_ids: list[int]) -> Tensor:
    """What `transformers` would draw from."""
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(params.repetition_penalty)])
    processors.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        processors.append(TopPLogitsWarper(params.top_p))
    return torch.softmax(processors(torch.tensor([seen_ids]), logits[None].clone()), dim=-1)[0]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(seed=5, temperature=1.0),
        SamplingParams(seed=5, temperature=0.5, top_k=4),
        SamplingParams(seed=5, temperature=1.5, top_p=0.8),
        SamplingParams(seed=5, temperature=2.0, top_k=20, top_p=0.9, repetition_penalty=1.4),
        SamplingParams(seed=5, temperature=0.9, repetition_penalty=0.7),
        SamplingParams(seed=5, temperature=1.0, top_k=1),
        SamplingParams(seed=5, temperature=1.0, top_k=10_000, top_p=1e-9),
    ],
)
def test_tokens_are_drawn_from_the_filtered_distribution(params: SamplingParams) -> None:
    logits = random_logits(1)[0]
    num_draws = 1500
    sequences = [make_sequence(params, num_output_tokens=index) for index in range(num_draws)]

    tokens = torch.tensor(sample(logits.repeat(num_draws, 1), sequences))

    expected = expected_distribution(logits, params, seen_ids=[1, 2, 3])
    if params.repetition_penalty != 1.0:  # all but the first sequence have token 4 behind them
        expected = expected_distribution(logits, params, seen_ids=[1, 2, 3, 4])
    seen = torch.bincount(tokens, minlength=VOCAB_SIZE) / num_draws
    assert set(tokens.unique().tolist()) <= set(expected.nonzero()[:, 0].tolist())
    # Each frequency has a deviation of at most 0.013 here; six of them.
    assert (seen - expected).abs().max() < 0.078


def test_greedy_takes_the_most_probable_token_after_the_penalty() -> None:
    logits = torch.zeros(2, VOCAB_SIZE)
    logits[:, 3], logits[:, 9] = 2.0, 1.5

    tokens = sample(logits, [make_sequence(GREEDY), make_sequence(replace(GREEDY, repetition_penalty=2.0))])

    assert tokens == [3, 9]


def test_do_sample_false_and_temperature_zero_are_both_greedy() -> None:
    logits = random_logits(1).repeat(2, 1)
    sequences = [make_sequence(GREEDY), make_sequence(SamplingParams(seed=0, do_sample=False, temperature=5.0))]

    assert sample(logits, sequences) == logits.argmax(dim=-1).tolist()


def test_rows_of_one_batch_keep_to_their_own_parameters() -> None:
    variants = [
        GREEDY,
        SamplingParams(seed=1, temperature=1.3),
        SamplingParams(seed=2, temperature=0.7, top_k=3),
        SamplingParams(seed=3, temperature=1.0, top_p=0.5, repetition_penalty=1.2),
        SamplingParams(seed=4, do_sample=False, repetition_penalty=5.0),
    ]
    logits = random_logits(40)
    sequences = [make_sequence(variants[row % 5], [row, row + 1], row) for row in range(40)]

    together = sample(logits.clone(), sequences)

    alone = [sample(logits[row : row + 1].clone(), [sequences[row]])[0] for row in range(40)]
    assert together == alone


def test_the_smallest_temperature_is_greedy_and_does_not_overflow() -> None:
    logits = random_logits(3)
    sequences = [make_sequence(SamplingParams(seed=seed, temperature=1e-300)) for seed in range(3)]

    assert sample(logits, sequences) == logits.argmax(dim=-1).tolist()


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = torch.full((500, VOCAB_SIZE), -math.inf)
    logits[:, 17] = 0.0
    sequences = [make_sequence(SamplingParams(seed=seed, temperature=2.0)) for seed in range(500)]

    assert set(sample(logits, sequences)) == {17}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_fails_alone(bad: float) -> None:
    logits = random_logits(3)
    logits[1, 7] = bad

    tokens = Sampler().sample(logits, [make_sequence(GREEDY)] * 3)

    assert isinstance(tokens[1], InternalError)
    assert [tokens[0], tokens[2]] == [logits[0].argmax(), logits[2].argmax()]


def test_a_row_whose_parameters_cannot_be_read_fails_alone() -> None:
    logits = random_logits(2)
    broken = replace(GREEDY, top_k="many")  # type: ignore[arg-type]

    tokens = Sampler().sample(logits, [make_sequence(broken), make_sequence(GREEDY)])

    assert isinstance(tokens[0], InternalError)
    assert tokens[1] == logits[1].argmax()


def test_half_precision_logits_are_sampled_too() -> None:
    sequences = [make_sequence(SamplingParams(seed=9, top_p=0.9)), make_sequence(GREEDY)]

    assert len(sample(random_logits(2).bfloat16(), sequences)) == 2


def test_the_draw_depends_on_seed_and_index_alone_and_spreads_evenly() -> None:
    draws = torch.tensor([[uniform(seed, index) for index in range(100)] for seed in range(-50, 50)])

    assert uniform(7, 3) == uniform(7, 3)
    assert len(draws.unique()) > 9900  # as float32, a few of 10,000 may coincide
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert torch.histc(draws, bins=10, min=0, max=1).sub(1000).abs().max() < 180  # six deviations
    rows, columns = torch.corrcoef(draws), torch.corrcoef(draws.T)
    assert max(rows.fill_diagonal_(0).abs().max(), columns.fill_diagonal_(0).abs().max()) < 0.6


def test_the_draws_are_fixed_for_ever() -> None:
    """A job that is continued by a newer release must get the tokens it would have got."""
    assert [uniform(42, index) for index in range(3)] == [
        0.5961188718302076,
        0.1603653875985772,
        0.16639780398145976,
    ]
