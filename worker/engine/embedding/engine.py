"""Computes the inputs of all jobs in common batches, on one thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class ComputesVectors(Protocol):
    """The part of an encoder that is needed here."""

    def vectors(self, batch: Sequence[Sequence[int]]) -> Tensor:
        """Return the vectors of inputs, one row for each."""


class Work:
    """The inputs of one job. `on_end` is called once, from the engine's thread, when all have their vectors.

    Attributes:
        vectors: one row for each input; complete after `on_end`.
        error: why they could not be computed.
    """

    def __init__(self, owner: str, inputs: Sequence[Sequence[int]], on_end: Callable[[], None]) -> None:
        self.owner = owner
        self.inputs = inputs
        self.error: Exception | None = None
        self._on_end = on_end
        self._rows: list[Tensor | None] = [None] * len(inputs)
        self._num_left = len(inputs)
        self.is_over = False

    @property
    def vectors(self) -> Tensor:
        """The rows that are there."""
        return torch.stack([row for row in self._rows if row is not None])

    def put(self, index: int, row: Tensor) -> None:
        """Take the vector of one input."""
        self._rows[index] = row
        self._num_left -= 1
        if self._num_left == 0:
            self._end()

    def fail(self, error: Exception) -> None:
        """End with an error."""
        self.error = error
        self._end()

    def cancel(self) -> None:
        """Have inputs that are not computed yet left out; `on_end` may not be called any more."""
        self.is_over = True

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._on_end()


class _Item(NamedTuple):
    work: Work
    row: int

    @property
    def tokens(self) -> Sequence[int]:
        return self.work.inputs[self.row]


class EmbeddingEngine:
    """Takes the next input of each owner in turn, until a batch is full; inputs of a job by length.

    Args:
        encoder: computes a batch.
        batch_tokens: the most tokens of a batch, with padding; a longer input is a batch of its own.
        note_batch: called with the numbers of inputs and tokens of each batch, and the seconds that it took.
    """

    def __init__(
        self,
        encoder: ComputesVectors,
        *,
        batch_tokens: int,
        note_batch: Callable[[int, int, float], None] = lambda _inputs, _tokens, _seconds: None,
    ) -> None:
        self._encoder = encoder
        self._batch_tokens = batch_tokens
        self._note_batch = note_batch
        self._waiting: dict[str, deque[_Item]] = {}  # by owner, in the order in which they come next
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="slm-embedding", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present batch."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def num_waiting(self) -> int:
        """The number of inputs that wait."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def submit(self, work: Work) -> None:
        """Compute the vectors of a job's inputs."""
        order = sorted(range(len(work.inputs)), key=lambda index: len(work.inputs[index]))
        with self._changed:
            self._waiting.setdefault(work.owner, deque()).extend(_Item(work, index) for index in order)
            self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._next():
            started = time.monotonic()
            self._compute(batch)
            self._note_batch(len(batch), sum(len(item.tokens) for item in batch), time.monotonic() - started)

    def _next(self) -> list[_Item]:
        """Wait for inputs and return the next batch; empty after `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping or self._waiting)
            if self._is_stopping:
                return []
            return self._taken()

    def _taken(self) -> list[_Item]:
        batch: list[_Item] = []
        longest = 0
        while self._waiting:
            owner, items = next(iter(self._waiting.items()))
            longest = max(longest, len(items[0].tokens))
            if batch and longest * (len(batch) + 1) > self._batch_tokens:
                break
            batch.append(items.popleft())
            del self._waiting[owner]
            if items:  # at the end: the others come first
                self._waiting[owner] = items
        return batch

    def _compute(self, batch: Sequence[_Item]) -> None:
        wanted = [item for item in batch if not item.work.is_over]
        if not wanted:
            return
        try:
            rows = self._encoder.vectors([item.tokens for item in wanted])
        except Exception as err:
            log.exception("a batch of %d inputs failed", len(wanted))
            for item in wanted:
                item.work.fail(err)
            return
        for item, row in zip(wanted, rows, strict=True):
            item.work.put(item.row, row)
