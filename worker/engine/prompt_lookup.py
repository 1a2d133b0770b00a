"""Guesses at the next tokens: what came the last time that a sequence stood where it stands now.

Prompt lookup decoding (Saxena 2023): the newest tokens are looked up in prompt and answer, and what followed them there
is guessed to follow again. A model checks several guesses in one step, which costs little more than a step for one
where reading the weights takes most of the time. So every right guess saves a step.
"""

from __future__ import annotations

LONGEST, SHORTEST = 3, 2  # tokens that must have come before in the same order; of a single one too little follows


class PromptLookup:
    """Where each short run of a sequence's tokens last ended. It grows with the sequence."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}  # run -> index of what followed it
        self._num_read = 0

    def guess(self, token_ids: list[int], count: int) -> list[int]:
        """`count` tokens that may come next, or none.

        Args:
            token_ids: of prompt and answer; since the last call, the list must only have grown.
        """
        self._read(token_ids)
        for length in range(LONGEST, SHORTEST - 1, -1):
            if (end := self._ends.get(tuple(token_ids[-length:]))) is not None:
                return _copy_on(token_ids, end, count)
        return []

    def _read(self, token_ids: list[int]) -> None:
        """Note each run that something has followed; later ones take the place of earlier ones."""
        for end in range(max(self._num_read, 1), len(token_ids)):
            for length in range(SHORTEST, min(LONGEST, end) + 1):
                self._ends[tuple(token_ids[end - length : end])] = end
        self._num_read = len(token_ids)


def _copy_on(token_ids: list[int], begin: int, count: int) -> list[int]:
    """The `count` tokens from `begin` on; beyond the end come those that are copied, as in a text that goes round."""
    period = len(token_ids) - begin
    return [token_ids[begin + index % period] for index in range(count)]
