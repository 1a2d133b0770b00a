"""The boundary between the sampler and whatever limits an answer's tokens, such as a grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class TokenConstraint(Protocol):
    """Which tokens may come next in one answer. It belongs to one sequence and begins before the answer's first token.

    Both methods are called by the engine thread, between a step's forward and its tokens. What they raise ends the
    sequence with an error, and no other one.
    """

    def allowed(self, mask: Tensor) -> None:
        """Mark every token that may come next.

        End-of-sequence tokens count: the answer can end only where they are marked.

        Args:
            mask: int32, [ceil(vocab_size / 32)], all 0, on the CPU; token t is bit t % 32 of word t // 32. Grammar
                libraries fill this format.
        """
        ...

    def accept(self, token_id: int) -> None:
        """Go on behind the answer's next token: one that was allowed, or one that an earlier attempt committed.

        Raises:
            ValueError: the token may not stand here.
        """
        ...
