"""What the sampler chose for one sequence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token and, where the sequence asks for them, log probabilities (natural logarithms of the model's own).

    `top` are the most probable tokens with theirs, most probable first; the chosen one need not be among them.
    """

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
