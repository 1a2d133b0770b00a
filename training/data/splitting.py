"""Holds out a part of a dataset, such that it asks nothing that is trained in other words."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from training.data.examples import Dataset
from training.data.likeness import Groups, normalised, prompt_text

HELD_OUT_SHARE = 0.1
MAX_HELD_OUT = 200  # examples; more would only make each evaluation slower

Grouping = Literal["response and wording", "wording", "nothing"]


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of a dataset.

    `grouped_by` says which examples were kept on one side: those with the same response or nearly the same question; if
    such groups are larger than the part to hold out, those with nearly the same question; or none.
    """

    training: Dataset
    held_out: Dataset
    grouped_by: Grouping


def split(dataset: Dataset, seed: int, share: float = HELD_OUT_SHARE) -> tuple[Dataset, Dataset]:
    """Return the part to train on and the part held out, as `split_groups` does."""
    parts = split_groups(dataset, seed, share)
    return parts.training, parts.held_out


def split_groups(dataset: Dataset, seed: int, share: float = HELD_OUT_SHARE) -> Split:
    """Hold out a random `share` of the dataset, chosen by `seed`: at least 1 example, at most `MAX_HELD_OUT`.

    A group larger than this part is never held out: what it teaches would be lost.
    """
    wanted = min(max(1, round(share * len(dataset))), MAX_HELD_OUT)
    choices = ((name, _choose(groups, wanted, seed)) for name, groups in _groupings(dataset))
    grouped_by, held_out = next(choice for choice in choices if choice[1])
    training = set(range(len(dataset))) - held_out
    return Split(dataset.only(training), dataset.only(held_out), grouped_by)


def _choose(groups: list[list[int]], wanted: int, seed: int) -> set[int]:
    """Return the indices of randomly chosen groups with together about `wanted`; none if too few fit."""
    chosen: set[int] = set()
    for group in random.Random(seed).sample(groups, len(groups)):  # noqa: S311 - no secret depends on it
        if len(chosen) + len(group) <= wanted:
            chosen.update(group)
    return chosen if 2 * len(chosen) >= wanted else set()


def _groupings(dataset: Dataset) -> Iterator[tuple[Grouping, list[list[int]]]]:
    """Yield the groups of examples to keep on one side, the largest groups first."""
    wordings = Groups(len(dataset))
    wordings.join_alike([prompt_text(one) for one in dataset.examples])
    groups = wordings.copy()
    groups.join_equal(normalised(one.response) for one in dataset.examples)
    yield "response and wording", groups.members()
    yield "wording", wordings.members()
    yield "nothing", [[index] for index in range(len(dataset))]
