from __future__ import annotations

import math

import pytest
import torch

from worker.engine.sampling.topk import BLOCK, row_max, topk

SIZES = [1, BLOCK - 1, BLOCK, BLOCK + 1, 50 * BLOCK, 50 * BLOCK + 7]


@pytest.mark.parametrize("size", SIZES)
def test_the_first_maximum_of_a_row_is_found(size: int) -> None:
    values = torch.randint(0, 9, (40, size), generator=torch.Generator().manual_seed(size)).float()

    best, places = row_max(values)

    assert torch.equal(best, values.max(dim=-1).values)
    assert torch.equal(places, (values == best[:, None]).int().argmax(dim=-1))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, BLOCK, 2 * BLOCK + 1])
def test_a_value_that_is_not_finite_only_affects_its_row(bad: float, place: int) -> None:
    values = torch.zeros(3, 2 * BLOCK + 2)
    values[1, place] = bad

    assert row_max(values)[0].isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("count", [1, 5, 24, 60, 10_000])
@pytest.mark.parametrize("size", SIZES)
def test_the_largest_values_are_those_of_a_sort(size: int, count: int) -> None:
    values = torch.randn(20, size, generator=torch.Generator().manual_seed(size))

    found, places = topk(values, count)

    assert torch.equal(found, values.sort(dim=-1, descending=True).values[:, :count])
    assert torch.equal(found, values.gather(-1, places))


def test_ties_and_forbidden_values_keep_every_index_inside_the_row() -> None:
    values = torch.full((2, 50 * BLOCK + 7), -math.inf)
    values[0, -3:] = 1.0

    found, places = topk(values, 5)

    assert found[0].tolist() == [1.0] * 3 + [-math.inf] * 2
    assert set(places[0, :3].tolist()) == set(range(values.shape[1] - 3, values.shape[1]))
    assert 0 <= places.min() <= places.max() < values.shape[1]
