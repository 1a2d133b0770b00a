"""The boundary between the sampler and whatever limits an answer's tokens, such as a grammar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class TokenConstraint(Protocol):
    """Which tokens may come next in one answer. It belongs to one sequence and begins before the answer's first token.

    What is allowed behind a token may take a while to find out: it is known when `is_known` says so, and the other
    questions may be asked from then on until the next `advance`. The engine thread alone uses it while its sequence is
    in the engine. What it raises ends the sequence, and no other one.
    """

    def advance(self, token_ids: Sequence[int]) -> None:
        """Go on behind these tokens, each allowed when it was chosen. Never waits.

        A token that ends the answer is none of it.
        """
        ...

    def is_known(self, timeout_s: float) -> bool:
        """Whether it is known what may come next; waits for that, `timeout_s` at most.

        Raises:
            SLMError: the tokens may not stand there, or it cannot be followed further.
        """
        ...

    @property
    def is_complete(self) -> bool:
        """Whether nothing may come any more but the end."""
        ...

    def allowed(self, mask: Tensor) -> None:
        """Mark every token that may come next.

        End-of-sequence tokens count: the answer can end only where they are marked.

        Args:
            mask: int32, [ceil(vocab_size / 32)], all 0, on the CPU; token t is bit t % 32 of word t // 32. Grammar
                libraries fill this format.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds, when the sequence has left the engine."""
        ...
