"""Proposes draft tokens: those that followed the last occurrence of the newest tokens.

Prompt lookup decoding (Saxena 2023): the newest tokens are looked up in prompt and answer, and the tokens that followed
them there become draft tokens. The model verifies several draft tokens in one step, which costs little more than a step
for one token if reading the weights takes most of the time. So every accepted draft token saves a step.
"""

from __future__ import annotations

LONGEST, SHORTEST = 3, 2  # tokens that must match; a match of a single token predicts too little
MAX_LOOKED_UP = 3  # draft tokens of a sequence in a step; more are too rarely right


class PromptLookup:
    """An index of where each short run of a sequence's tokens last ended. It grows with the sequence."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}  # run -> index of the token after it
        self._num_read = 0

    def draft_tokens(self, token_ids: list[int], count: int) -> list[int]:
        """Return `count` draft tokens, or none.

        Args:
            token_ids: tokens of prompt and answer; the list must only have grown since the last call.
        """
        self._read(token_ids)
        for length in range(LONGEST, SHORTEST - 1, -1):
            if (end := self._ends.get(tuple(token_ids[-length:]))) is not None:
                return _continuation(token_ids, end, count)
        return []

    def _read(self, token_ids: list[int]) -> None:
        """Index each run that is followed by a token; later runs replace earlier ones."""
        for end in range(max(self._num_read, 1), len(token_ids)):
            for length in range(SHORTEST, min(LONGEST, end) + 1):
                self._ends[tuple(token_ids[end - length : end])] = end
        self._num_read = len(token_ids)


def _continuation(token_ids: list[int], begin: int, count: int) -> list[int]:
    """Return `count` tokens from `begin` on; after the end, the copied tokens repeat."""
    period = len(token_ids) - begin
    return [token_ids[begin + index % period] for index in range(count)]
