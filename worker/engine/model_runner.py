"""The boundary between policy and computation: the engine knows a model only as a `ModelRunner`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class DeviceLostError(Exception):
    """The device is dead (a CUDA fault); nothing can run on it again in this process."""


class OutOfMemoryError(Exception):
    """A step needs more memory than there is; a smaller one may not."""


class UnsupportedModelError(Exception):
    """A runner cannot compute the model; the text says why. Another one may."""


class CacheTooSmall(ValueError):
    """The memory for keys and values does not hold one full sequence."""


class Row(NamedTuple):
    """The part of one sequence that one step computes: a chunk of its prefill or its newest token.

    The tokens are at positions `start` .. `start + len(token_ids) - 1` of their sequence. Position p is in block
    `blocks[p // block_tokens]`, where everything before `start` is already.
    """

    blocks: tuple[int, ...]
    token_ids: tuple[int, ...]
    start: int
    adapter: str
    needs_logits: bool  # false for a prefill chunk that is not the last
    num_guesses: int = 0  # of the tokens, the last ones that may turn out not to be the sequence's
    source: int | None = None  # of an asynchronous runner: where in the last samples its one token is

    @property
    def num_logits(self) -> int:
        """Of its last tokens, those whose following logits are wanted: the guesses, and the one before them."""
        return 1 + self.num_guesses if self.needs_logits else 0

    def check_tokens(self, vocab_size: int) -> None:
        """Raises `ValueError` where one is not in the vocabulary: what reads a table by them takes them on trust."""
        if not 0 <= min(self.token_ids) <= max(self.token_ids) < vocab_size:
            raise ValueError(f"A token is not in the vocabulary of {vocab_size}.")


class ModelRunner(Protocol):
    """Runs the model over blocks of cached keys and values. All its methods but `close` are called by one thread."""

    num_slots: int  # most rows of a forward
    context_length: int  # most tokens of a sequence
    vocab_size: int
    num_blocks: int
    block_tokens: int  # tokens of a block
    mixed_chunk: int  # prompt tokens that do not make a step of few decoding rows much longer
    short_prompt: int  # prompt tokens that make a step so much longer as may be now and then
    max_guesses: int  # most of a row; 0: it takes none
    adapters: frozenset[str]  # the names that rows may carry
    is_asynchronous: bool  # whether it is an `AsynchronousRunner`

    def forward(self, rows: list[Row]) -> Tensor:
        """Compute the rows, at most one per sequence; prefill and decode rows may be mixed.

        Returns:
            The logits that follow the last `num_logits` tokens of every row, in their order:
            [sum of all rows' `num_logits`, vocab_size].

        Raises:
            DeviceLostError: the device is dead.
            OutOfMemoryError: fewer or shorter rows may work. Any other exception costs only the rows' sequences.
        """
        ...

    def copy_block(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the keys and values of a block's first tokens to another block."""
        ...

    def close(self) -> None:
        """Drop the weights and the cache. The engine that used the runner must have stopped."""
        ...


class AsynchronousRunner(ModelRunner, Protocol):
    """A runner that starts work on a device and does not wait for it.

    Everything takes effect in the order of the calls, what a sampler starts on the logits in between. So a block can
    have a new owner as soon as no further call names the old one's tokens.
    """

    def forward(self, rows: list[Row], previous: Tensor | None = None) -> Tensor:
        """As `ModelRunner.forward`. Errors of the device may come with a later call, or with a look at the logits.

        Args:
            rows: some may have a `source`, and then any one token in place of that which is not known yet.
            previous: the tokens, int64 [samples], that those sources point into.
        """
        ...
