"""The interface between policy and computation: the engine uses a model only through a `ModelRunner`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from worker.engine.lora import AdapterWeights


Logits: TypeAlias = Any  # [rows, vocab_size], a numpy array or a tensor: only the sampler for that runner looks into it


class DeviceLostError(Exception):
    """The device has failed (a CUDA fault); nothing can run on it again in this process."""


class OutOfMemoryError(Exception):
    """A step needs more memory than there is; a smaller step may work."""


class UnsupportedModelError(Exception):
    """A runner does not support the model; the text says why. Another runner may."""


class UnsupportedAdapter(Exception):
    """A runner cannot apply an adapter to its model; the text says why."""


class CacheTooSmall(ValueError):
    """The memory for keys and values does not hold one full sequence."""


class Row(NamedTuple):
    """The tokens of one sequence in a step: a chunk of its prefill, or its newest token and its draft tokens.

    The tokens are at positions `start` .. `start + len(token_ids) - 1` of their sequence. Position p is in block
    `blocks[p // block_tokens]`; the blocks already hold everything before `start`.
    """

    blocks: tuple[int, ...]
    token_ids: tuple[int, ...]
    start: int
    adapter: str  # one of the runner's `adapters`
    needs_logits: bool  # false for all prefill chunks except the last
    num_draft_tokens: int = 0  # how many of the last tokens are draft tokens
    is_scored: bool = False  # every token needs logits, for the log probability of the one after it
    source: int | None = None  # for an `OverlapRunner`: the index of its only token in the last samples

    @property
    def num_logits(self) -> int:
        """How many of the last tokens need logits: all, or the draft tokens and the token before them."""
        if self.is_scored:
            return len(self.token_ids)
        return 1 + self.num_draft_tokens if self.needs_logits else 0

    @property
    def draft_tokens(self) -> tuple[int, ...]:
        """The draft tokens."""
        return self.token_ids[len(self.token_ids) - self.num_draft_tokens :]

    def check_tokens(self, vocab_size: int) -> None:
        """Raise `ValueError` if a token is not in the vocabulary, because table lookups do not check it."""
        if not 0 <= min(self.token_ids) <= max(self.token_ids) < vocab_size:
            raise ValueError(f"A token is not in the vocabulary of {vocab_size}.")


class PreparedAdapter(Protocol):
    """An adapter in the form and in the memory in which a runner computes it, ready to be added."""

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, in bytes."""
        ...

    def close(self) -> None:
        """Free the memory of an adapter that was never added; afterwards it cannot be added."""
        ...


@runtime_checkable
class KeepsPreparedAdapters(Protocol):
    """A runner that can keep prepared adapters in files, from which they need not be checked and prepared again."""

    def restore_adapter(self, folder: Path) -> PreparedAdapter | None:
        """Return an adapter that was kept in its folder by a runner of the same kind and base; None if none was.

        Raises:
            OutOfMemoryError: there is not enough memory.
        """
        ...

    def keep_adapter(self, prepared: PreparedAdapter, folder: Path) -> None:
        """Keep an adapter that this runner has prepared in its folder; log it if that fails."""
        ...


class ModelRunner(Protocol):
    """Runs the model over blocks of cached keys and values.

    All methods except `prepare_adapter` and `close` are called by one thread.
    """

    max_num_seqs: int  # maximum rows of a forward
    context_length: int  # maximum tokens of a sequence
    vocab_size: int
    num_blocks: int
    block_tokens: int  # tokens of a block
    mixed_chunk: int  # prompt tokens that hardly lengthen a step with few decoding rows
    short_prompt: int  # prompt tokens that lengthen a step by an acceptable amount if it happens rarely
    max_draft_tokens: int  # maximum draft tokens of a row; 0: not supported
    can_overlap: bool  # whether it is an `OverlapRunner`

    @property
    def adapters(self) -> Collection[str]:
        """The ids that rows may carry: `BASE_ADAPTER` and those that were added."""
        ...

    def prepare_adapter(self, weights: AdapterWeights) -> PreparedAdapter:
        """Do the slow part of adding an adapter; called by any thread, beside the other methods.

        Raises:
            UnsupportedAdapter: the runner cannot apply it; the text says why.
            OutOfMemoryError: there is not enough memory for it.
            DeviceLostError: the device has failed.
        """
        ...

    def add_adapter(self, adapter_id: str, prepared: PreparedAdapter) -> None:
        """Let rows carry an adapter that this runner has prepared. It is quick, and happens between two forwards.

        Raises:
            ValueError: there is an adapter with this id.
            OutOfMemoryError: there is not enough memory for it.
            DeviceLostError: the device has failed.
        """
        ...

    def remove_adapter(self, adapter_id: str) -> None:
        """Free the memory of an adapter that no row will carry any more.

        Raises:
            ValueError: there is no such adapter, or it is the base.
        """
        ...

    def forward(self, rows: list[Row]) -> Logits:
        """Compute the rows, at most one per sequence; prefill and decode rows may be mixed.

        Returns:
            The logits after each of the last `num_logits` tokens of every row, in order:
            [sum of all rows' `num_logits`, vocab_size].

        Raises:
            DeviceLostError: the device has failed.
            OutOfMemoryError: fewer or shorter rows may work. Any other exception ends only the rows' sequences.
        """
        ...

    def copy_block(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the keys and values of a block's first tokens to another block."""
        ...

    def close(self) -> None:
        """Free the weights and the cache. The engine that used the runner must have stopped."""
        ...


class OverlapRunner(ModelRunner, Protocol):
    """A runner that starts work on a device and does not wait for it.

    Everything takes effect in the order of the calls, including the work that a sampler starts on the logits. So a
    block can get a new owner as soon as no further call uses the old owner's tokens.
    """

    def forward(self, rows: list[Row], previous: Tensor | None = None) -> Tensor:
        """As `ModelRunner.forward`. Device errors may be raised by a later call, or when the logits are read.

        Args:
            rows: some may have a `source`, and then an arbitrary token instead of the one that is not known yet.
            previous: the samples that the sources refer to, int64 [samples].
        """
        ...
