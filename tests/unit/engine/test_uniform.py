from __future__ import annotations

import torch

from worker.engine.uniform import uniform


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
