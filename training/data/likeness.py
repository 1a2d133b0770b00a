"""Finds texts that say the same in nearly the same words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain
from math import ceil

from training.data.examples import Example

LIKE = 0.8  # the share of common words from which two texts are near duplicates
MAX_CANDIDATES = 64  # texts that one is compared with, those that share most of its rare words
MAX_COMPARED = 16  # texts that one rare word leads to; bounds the time for texts that are all alike

_WORD = re.compile(r"\w+")

Words = frozenset[str]


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

    def join_alike(self, texts: Sequence[str]) -> None:
        """Put those whose normalised texts are near duplicates into one group."""
        for one, other in near_duplicates(texts, is_known=self._are_joined):
            self.join(one, other)

    def _are_joined(self, one: int, other: int) -> bool:
        return self._parents[one] == self._parents[other] or self.leader(one) == self.leader(other)

    def copy(self) -> Groups:
        """Return groups that can be joined further without changing these."""
        groups = Groups(0)
        groups._parents = list(self._parents)
        return groups

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


def near_duplicates(
    texts: Sequence[str], *, first: int = 0, is_known: Callable[[int, int], bool] = lambda _one, _other: False
) -> Iterator[tuple[int, int]]:
    """Yield pairs of indices of normalised texts that share at least `LIKE` of their words, the smaller index first.

    Two such texts must share one of their rarest words (prefix filtering), so few pairs are compared.

    Args:
        texts: the texts.
        first: the later one of a pair has at least this index.
        is_known: whether a pair need not be compared; asked again for each pair, since the caller learns meanwhile.
    """
    words = [frozenset(text.split()) for text in texts]
    ranks = _ranks(words)
    seen: defaultdict[str, list[int]] = defaultdict(list)
    for index, own in enumerate(words):
        rarest = sorted(own, key=ranks.__getitem__)[: len(own) - ceil(LIKE * len(own)) + 1]
        if index >= first:
            for other in _candidates(seen[word] for word in rarest):
                if not is_known(other, index) and _are_alike(own, words[other]):
                    yield other, index
        for word in rarest:
            if len(seen[word]) < MAX_COMPARED:
                seen[word].append(index)


def _ranks(texts: Iterable[Words]) -> dict[str, int]:
    """Return the rank of each word; the rarest has the first."""
    frequency = Counter(word for one in texts for word in one)
    return {word: rank for rank, word in enumerate(sorted(frequency, key=lambda word: (frequency[word], word)))}


def _candidates(seen: Iterable[list[int]]) -> Iterable[int]:
    """Return up to `MAX_CANDIDATES` texts to compare with: those that are in most of the lists."""
    found = Counter(chain.from_iterable(seen))
    return found if len(found) <= MAX_CANDIDATES else (one for one, _ in found.most_common(MAX_CANDIDATES))


def _are_alike(one: Words, other: Words) -> bool:
    both = len(one & other)
    return both >= LIKE * (len(one) + len(other) - both)
