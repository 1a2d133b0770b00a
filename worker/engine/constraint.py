"""The boundary between the sampler and whatever limits an answer's tokens, such as a grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class TokenConstraint(Protocol):
    """Which tokens may come next in one answer. It belongs to one sequence and begins before the answer's first token.

    The thread that submits the sequence has it read the tokens of earlier attempts; from then on the engine thread
    alone uses it. What it raises ends the sequence, and no other one.
    """

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

        Raises:
            SLMError: it cannot be followed further.
        """
        ...

    def accept(self, token_id: int) -> None:
        """Go on behind the answer's next token: one that was allowed, or one that an earlier attempt committed.

        A token that ends the answer is none of it.

        Raises:
            SLMError: it cannot be followed further, or the token may not stand here.
        """
        ...
