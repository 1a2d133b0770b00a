"""The sampler's result for one sequence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token and, if requested, its log probability (natural logarithm, in the model's own distribution).

    `top` are the most probable tokens with their log probabilities, best first; the chosen one need not be among them.
    """

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
