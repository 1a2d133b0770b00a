"""The interface between the sampler and constraints on an answer's tokens, such as a grammar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TokenConstraint(Protocol):
    """Decides which tokens may come next in one answer. It belongs to one sequence and starts before its first token.

    Computing the allowed tokens may take a while: `is_known` says when they are known, and the other methods may be
    called from then on until the next `advance`. Only the engine thread uses it while its sequence is in the engine. An
    exception ends only this sequence.
    """

    def advance(self, token_ids: Sequence[int]) -> None:
        """Append these tokens, each of which was allowed when it was chosen. Never waits.

        A token that ends the answer is not passed.
        """
        ...

    def is_known(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` for the allowed tokens; return whether they are known.

        Raises:
            SLMError: the tokens were not allowed, or the constraint cannot be followed further.
        """
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the answer must end here."""
        ...

    def draft_tokens(self, count: int) -> list[int]:
        """Return up to `count` tokens that probably come next, because the constraint leaves only one text."""
        ...

    def allowed(self, mask: NDArray[np.int32], num_drafts: int = 0) -> None:
        """Mark every token that may come next, or after the first `num_drafts` draft tokens.

        This includes end-of-sequence tokens: the answer can end only if they are marked.

        Args:
            mask: int32, [ceil(vocab_size / 32)], all 0; token t is bit t % 32 of word t // 32. Grammar
                libraries fill this format.
            num_drafts: at most as many as `draft_tokens` has returned.
        """
        ...

    def close(self) -> None:
        """Free its resources after the sequence has left the engine."""
        ...
