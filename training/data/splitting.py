"""Holds out a part of a dataset, such that it asks nothing that is trained in other words."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from training.data.examples import Dataset
from training.data.likeness import Groups, near_duplicates, normalised, prompt_text

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
    choices = ((name, _choose(group(dataset), wanted, seed)) for name, group in _GROUPINGS.items())
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


def _by_response_and_wording(dataset: Dataset) -> list[list[int]]:
    groups = _wordings(dataset)
    groups.join_equal(normalised(one.response) for one in dataset.examples)
    return groups.members()


def _by_wording(dataset: Dataset) -> list[list[int]]:
    return _wordings(dataset).members()


def _wordings(dataset: Dataset) -> Groups:
    groups = Groups(len(dataset))
    for one, other in _alike(dataset):
        groups.join(one, other)
    return groups


def _alike(dataset: Dataset) -> Iterable[tuple[int, int]]:
    return near_duplicates([prompt_text(one) for one in dataset.examples])


def _alone(dataset: Dataset) -> list[list[int]]:
    return [[index] for index in range(len(dataset))]


_GROUPINGS: dict[Grouping, Callable[[Dataset], list[list[int]]]] = {
    "response and wording": _by_response_and_wording,
    "wording": _by_wording,
    "nothing": _alone,
}
