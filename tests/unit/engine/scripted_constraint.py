"""A stand-in for a grammar."""

from __future__ import annotations

import torch
from torch import Tensor

from common.errors import InvalidRequest


class ScriptedConstraint:
    """Allows what it is told for each place of the answer, then nothing more, and keeps what it accepted.

    At a place where nothing is allowed it fails, as a grammar that has become too complex does.
    """

    def __init__(self, *allowed: set[int]) -> None:
        self.accepted: list[int] = []
        self._allowed = allowed

    @property
    def is_complete(self) -> bool:
        return len(self.accepted) == len(self._allowed)

    def allowed(self, mask: Tensor) -> None:
        if not self._allowed[len(self.accepted)]:
            raise InvalidRequest("too complex", param="regex")
        for token_id in self._allowed[len(self.accepted)]:
            mask[token_id // 32] |= torch.tensor(1, dtype=torch.int32) << token_id % 32

    def accept(self, token_id: int) -> None:
        if token_id not in self._allowed[len(self.accepted)]:
            raise InvalidRequest(f"{token_id} may not stand here", param="regex")
        self.accepted.append(token_id)
