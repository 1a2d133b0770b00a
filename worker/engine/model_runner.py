"""The boundary between policy and computation: the engine knows a model only as a `ModelRunner`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class DeviceLostError(Exception):
    """The device is dead (a CUDA fault); nothing can run on it again in this process."""


@dataclass(frozen=True, slots=True)
class Row:
    """The part of one sequence that one step computes: a chunk of its prefill or its newest token.

    The tokens are written at positions `start` .. `start + len(token_ids) - 1` of the slot. `start` 0 opens the slot
    for a new sequence; any other row continues exactly where the slot's last row ended.
    """

    slot: int
    token_ids: tuple[int, ...]
    start: int
    adapter: str
    needs_logits: bool  # false for a prefill chunk that is not the last


class ModelRunner(Protocol):
    """Runs the model over slots of cached keys and values. All its methods but `close` are called by one thread."""

    num_slots: int
    context_length: int  # most tokens a slot holds
    vocab_size: int
    adapters: frozenset[str]  # the names that rows may carry

    def forward(self, rows: list[Row]) -> Tensor:
        """Compute the rows, at most one per slot; prefill and decode rows may be mixed.

        Returns:
            The logits that follow the last token of every row with `needs_logits`, in the rows' order:
            [number of such rows, vocab_size].

        Raises:
            DeviceLostError: the device is dead. Any other exception costs only the rows' sequences.
        """
        ...

    def close(self) -> None:
        """Drop the weights and the cache. The engine that used the runner must have stopped."""
        ...
