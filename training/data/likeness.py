"""Finds texts that say the same in nearly the same words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from math import ceil

from training.data.examples import Example

LIKE = 0.8  # the share of common words from which two texts are near duplicates
MAX_COMPARED = 50  # texts that one rare word leads to; bounds the time for texts that are all alike

_WORD = re.compile(r"\w+")


class Groups:
    """Joins indices into groups (union-find)."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def join(self, one: int, other: int) -> None:
        """Put both into one group; the smaller number leads it."""
        low, high = sorted((self.leader(one), self.leader(other)))
        self._parents[high] = low

    def join_equal(self, values: Iterable[Hashable]) -> None:
        """Put those with equal values into one group."""
        first: dict[Hashable, int] = {}
        for index, value in enumerate(values):
            self.join(index, first.setdefault(value, index))

    def leader(self, index: int) -> int:
        """Return the number that stands for the index's group."""
        while self._parents[index] != index:
            self._parents[index] = index = self._parents[self._parents[index]]
        return index

    def members(self) -> list[list[int]]:
        """Return the groups, each in order."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for index in range(len(self._parents)):
            found[self.leader(index)].append(index)
        return list(found.values())


def prompt_text(example: Example) -> str:
    """Return the text that asks for the example's response, normalised; earlier turns belong to it."""
    return normalised("\n".join(f"{one.role} {one.content}" for one in example.prompt))


def normalised(text: str) -> str:
    """Return the words of the text in lower case; texts without words, such as formulas, stay as they are."""
    return " ".join(_WORD.findall(text.casefold())) or text.strip()


def near_duplicates(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs of indices of normalised texts that share at least `LIKE` of their words.

    Two such texts must share one of their rarest words (prefix filtering), so few pairs are compared.
    """
    words = [frozenset(text.split()) for text in texts]
    frequency = Counter(word for one in words for word in one)
    seen: defaultdict[str, list[int]] = defaultdict(list)
    for index, own in enumerate(words):
        rarest = sorted(own, key=lambda word: (frequency[word], word))[: len(own) - ceil(LIKE * len(own)) + 1]
        for other in {one for word in rarest for one in seen[word]}:
            if _is_like(own, words[other]):
                yield other, index
        for word in rarest:
            if len(seen[word]) < MAX_COMPARED:
                seen[word].append(index)


def _is_like(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= LIKE * len(one | other)
