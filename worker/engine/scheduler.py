"""Which sequences run, and which of their tokens the next step computes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from worker.engine.model_runner import Row
from worker.engine.sequence import Sequence, SequenceStatus
from worker.engine.slots import SlotPool


@dataclass(frozen=True, slots=True)
class Batch:
    """The work of one step. `sequences[i]` owns `rows[i]`."""

    sequences: list[Sequence] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences that get a token from this step, in the order of the logits."""
        return [sequence for sequence, row in zip(self.sequences, self.rows, strict=True) if row.needs_logits]


class Scheduler:
    """First come, first served, into free slots at step boundaries.

    Every running sequence that is past its prefill decodes in every step. Prefills share `prefill_chunk` tokens a step,
    oldest first, so that a long prompt slows the others' tokens by a bounded amount.
    """

    def __init__(self, num_slots: int, prefill_chunk: int) -> None:
        if prefill_chunk < 1:
            raise ValueError(f"A prefill chunk has at least one token, got {prefill_chunk}.")
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # oldest first
        self._slots = SlotPool(num_slots)
        self._prefill_chunk = prefill_chunk

    @property
    def num_free_slots(self) -> int:
        """Sequences that could start at once."""
        return self._slots.num_free

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    def schedule(self) -> Batch:
        """Admit what fits and choose the next step's rows."""
        self._admit()
        batch, budget = Batch(), self._prefill_chunk
        for sequence in self.running:
            count = sequence.num_uncomputed_tokens
            if count > 1:
                count = min(count, budget)
                budget -= count
            if count:
                batch.sequences.append(sequence)
                batch.rows.append(_row(sequence, count))
        return batch

    def advance(self, batch: Batch) -> None:
        """Note that the batch's tokens are in the cache now."""
        for sequence, row in zip(batch.sequences, batch.rows, strict=True):
            sequence.num_computed_tokens += len(row.token_ids)

    def remove(self, sequence: Sequence) -> None:
        """Take the sequence out, wherever it stands, and free its slot."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self._slots.free(sequence.slot)
        sequence.slot = None
        sequence.num_computed_tokens = 0

    def check_idle(self) -> None:
        """Raises `RuntimeError` when a slot is missing although nothing runs."""
        if not self.running and self._slots.num_free != self._slots.total:
            raise RuntimeError(f"{self._slots.total - self._slots.num_free} slots are taken, but no sequence runs.")

    def _admit(self) -> None:
        while self.waiting and self._slots.num_free:
            sequence = self.waiting.popleft()
            sequence.slot = self._slots.allocate()
            sequence.status = SequenceStatus.RUNNING
            self.running.append(sequence)


def _row(sequence: Sequence, count: int) -> Row:
    assert sequence.slot is not None  # noqa: S101 - only running sequences are scheduled
    return Row(
        slot=sequence.slot,
        token_ids=sequence.uncomputed_ids(count),
        start=sequence.num_computed_tokens,
        adapter=sequence.adapter,
        needs_logits=count == sequence.num_uncomputed_tokens,
    )
