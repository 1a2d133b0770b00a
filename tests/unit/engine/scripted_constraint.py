"""A stand-in for a grammar."""

from __future__ import annotations

import torch
from torch import Tensor


class ScriptedConstraint:
    """Allows what it is told for each place of the answer, and keeps what it accepted."""

    def __init__(self, *allowed: set[int]) -> None:
        self.accepted: list[int] = []
        self._allowed = allowed

    def allowed(self, mask: Tensor) -> None:
        for token_id in self._allowed[len(self.accepted)]:
            mask[token_id // 32] |= torch.tensor(1, dtype=torch.int32) << token_id % 32

    def accept(self, token_id: int) -> None:
        if token_id not in self._allowed[len(self.accepted)]:
            raise ValueError(f"{token_id} may not stand here")
        self.accepted.append(token_id)
