"""Every draw is compared with the inversion of transformers' filtered distribution of the same logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from worker.engine.sampling.random_sampling import (
    FIRST_CANDIDATES,
    _draw_filtered_at_once,
    draw,
)
from worker.engine.sampling.settings import RandomSampling, random_at

NUM_DRAWS = 60
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.3},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 5, "temperature": 0.7},
    {"top_k": 10_000},
    {"top_k": 3 * FIRST_CANDIDATES, "top_p": 0.9},
    {"top_k": 3 * FIRST_CANDIDATES, "top_p": 0.3},
    {"top_p": 0.5},
    {"top_p": 0.999, "temperature": 5.0},
    {"top_p": 1e-9},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"min_p": 1e-6, "temperature": 2.0},
    {"top_k": 40, "top_p": 0.8, "min_p": 0.02, "temperature": 1.5},
]


def make_choice(index: int, **settings: Any) -> RandomSampling:
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "point": random_at(1, index)}
    return RandomSampling(**defaults | settings)


def expected_probabilities(logits: Tensor, choice: RandomSampling) -> Tensor:
    """The distribution from which transformers would draw."""
    processors = LogitsProcessorList([TemperatureLogitsWarper(choice.temperature)])
    if choice.top_k:
        processors.append(TopKLogitsWarper(choice.top_k))
    if choice.top_p < 1.0:
        processors.append(TopPLogitsWarper(choice.top_p))
    if choice.min_p > 0.0:
        processors.append(MinPLogitsWarper(choice.min_p))
    return processors(torch.zeros(1, 1, dtype=torch.long), logits[None].clone())[0].double().softmax(dim=-1)


def expected_token(logits: Tensor, choice: RandomSampling) -> int:
    sums = expected_probabilities(logits, choice).cumsum(dim=-1)
    return int(torch.searchsorted(sums, choice.point * sums[-1], right=True))


@pytest.mark.parametrize("vocab_size", [50, 2000, 20_011])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_drawn_token_is_at_its_point_of_the_filtered_distribution(
    settings: dict[str, Any], vocab_size: int
) -> None:
    logits = torch.randn(NUM_DRAWS, vocab_size, generator=torch.Generator().manual_seed(vocab_size)) * 3
    choices = [make_choice(index, **settings) for index in range(NUM_DRAWS)]

    tokens = draw(logits, choices).tolist()

    assert tokens == [expected_token(row, choice) for row, choice in zip(logits, choices, strict=True)]


@pytest.mark.parametrize("vocab_size", [50, 20_011])
@pytest.mark.parametrize("settings", SETTINGS[3:], ids=str)
def test_drawing_without_asking_the_device_gives_the_same_tokens(settings: dict[str, Any], vocab_size: int) -> None:
    logits = torch.randn(NUM_DRAWS, vocab_size, generator=torch.Generator().manual_seed(vocab_size)) * 3
    logits[::2] = logits[::2].round()  # with ties
    choices = [make_choice(index, **settings) for index in range(NUM_DRAWS)]

    assert _draw_filtered_at_once(logits, choices).tolist() == draw(logits, choices).tolist()


def test_a_rows_draw_does_not_depend_on_the_other_rows() -> None:
    logits = torch.randn(60, 20_011, generator=torch.Generator().manual_seed(0)) * 3
    choices = [make_choice(index, **SETTINGS[index % len(SETTINGS)]) for index in range(60)]

    together = draw(logits, choices).tolist()

    assert together == [int(draw(logits[row : row + 1], choices[row : row + 1])) for row in range(60)]
    assert together == draw(logits.flip(0), choices[::-1]).tolist()[::-1]


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.15}, {"min_p": 0.999}], ids=str)
def test_tokens_that_tie_at_a_filters_boundary_all_stay(settings: dict[str, Any]) -> None:
    num_tied = 2 * FIRST_CANDIDATES
    logits = torch.zeros(1, 5000)
    logits[0, 1000 : 1000 + num_tied] = 9.0

    tokens = draw(logits.expand(4000, -1), [make_choice(index, **settings) for index in range(4000)])

    assert set(tokens.tolist()) == set(range(1000, 1000 + num_tied))


@pytest.mark.parametrize("settings", [{}, {"top_k": 9}, {"top_p": 0.9}, {"min_p": 0.5}], ids=str)
def test_the_smallest_temperature_takes_the_most_probable_token(settings: dict[str, Any]) -> None:
    logits = torch.randn(30, 500, generator=torch.Generator().manual_seed(0))
    choices = [make_choice(index, **{"temperature": 1e-300} | settings) for index in range(30)]

    assert draw(logits, choices).tolist() == logits.argmax(dim=-1).tolist()


@pytest.mark.parametrize("point", [0.0, 1.0 - 2.0**-53])
@pytest.mark.parametrize("settings", [{}, {"top_k": 9}, {"top_p": 0.9}, {"min_p": 0.5}], ids=str)
def test_no_forbidden_token_is_drawn(settings: dict[str, Any], point: float) -> None:
    logits = torch.full((1, 500), -torch.inf)
    logits[0, [100, 163, 300]] = torch.tensor([1.0, 1.1, 1.2])

    (token,) = draw(logits, [make_choice(0, point=point, **settings)]).tolist()

    assert token in {100, 163, 300}


def test_a_row_of_nan_does_not_disturb_the_others() -> None:
    logits = torch.randn(6, 500, generator=torch.Generator().manual_seed(0))
    choices = [make_choice(row, **settings) for row, settings in enumerate([{}, {"top_k": 5}] * 3)]
    expected = draw(logits, choices).tolist()
    logits[2:4] = torch.nan

    tokens = draw(logits, choices).tolist()

    assert tokens[:2] + tokens[4:] == expected[:2] + expected[4:]


def test_the_draw_depends_only_on_seed_and_index_and_is_uniform() -> None:
    draws = torch.tensor([[random_at(seed, index) for index in range(100)] for seed in range(-50, 50)])

    assert random_at(7, 3) == random_at(7, 3)
    assert len(draws.unique()) > 9900  # as float32, a few of 10,000 may coincide
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert torch.histc(draws, bins=10, min=0, max=1).sub(1000).abs().max() < 180  # six deviations
    rows, columns = torch.corrcoef(draws), torch.corrcoef(draws.T)
    assert max(rows.fill_diagonal_(0).abs().max(), columns.fill_diagonal_(0).abs().max()) < 0.6


def test_the_draws_never_change() -> None:
    """A job that a newer release resumes must get the same tokens."""
    assert [random_at(42, index) for index in range(3)] == [
        0.5961188718302076,
        0.1603653875985772,
        0.16639780398145976,
    ]
