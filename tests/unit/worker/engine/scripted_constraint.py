"""A stand-in for a grammar."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from common.errors import InvalidRequest


class ScriptedConstraint:
    """Allows the given tokens at each position of the answer, then nothing more, and keeps the accepted ones.

    If nothing is allowed at a position it fails, like a grammar that has become too complex. At each position in
    `slow_at` it only knows the allowed tokens after `set_free` was called.
    """

    def __init__(self, *allowed: set[int], slow_at: Sequence[int] = ()) -> None:
        self.accepted: list[int] = []
        self.is_closed = False
        self.num_looks = 0  # because it does not know
        self._allowed = allowed
        self._slow_at = set(slow_at)

    def set_free(self) -> None:
        self._slow_at.clear()

    @property
    def is_complete(self) -> bool:
        return len(self.accepted) == len(self._allowed)

    def is_known(self, _timeout_s: float) -> bool:
        for place, token_id in enumerate(self.accepted):
            if token_id not in self._allowed[place]:
                raise InvalidRequest(f"{token_id} may not stand here", param="regex")
        if not self.is_complete and not self._allowed[len(self.accepted)]:
            raise InvalidRequest("too complex", param="regex")
        is_known = len(self.accepted) not in self._slow_at
        self.num_looks = 0 if is_known else self.num_looks + 1
        return is_known

    def draft_tokens(self, count: int) -> list[int]:
        rest = self._allowed[len(self.accepted) : len(self.accepted) + count]
        return [min(tokens) for tokens in takewhile(lambda tokens: len(tokens) == 1, rest)]

    def allowed(self, mask: NDArray[np.int32], num_drafts: int = 0) -> None:
        assert self.is_known(0.0)
        for token_id in self._allowed[len(self.accepted) + num_drafts]:
            mask[token_id // 32] |= np.uint32(1 << token_id % 32).astype(np.int32)

    def advance(self, token_ids: Sequence[int]) -> None:
        self.accepted += token_ids

    def close(self) -> None:
        self.is_closed = True
