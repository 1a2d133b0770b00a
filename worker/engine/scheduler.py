"""Which sequences run, and which of their tokens the next step computes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from worker.engine.kv_cache_manager import BlockCopy, KVCacheManager
from worker.engine.model_runner import Row
from worker.engine.sequence import Sequence, SequenceStatus

ANY_TOKEN = 0  # in place of one that is not known yet
MIXED_SHARE = 0.75  # prompt tokens for a decoding one: more would slow it by more than a factor of two
MOST_GUESSING = 2  # sequences; beside more of them computing takes longer than reading the weights


@dataclass(frozen=True, slots=True)
class Batch:
    """The work of one step. `copies` come first, in their order; `sequences[i]` owns `rows[i]`."""

    sequences: list[Sequence] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    copies: list[BlockCopy] = field(default_factory=list)

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences that get a token from this step, in the order of the logits."""
        return [sequence for sequence, row in zip(self.sequences, self.rows, strict=True) if row.needs_logits]

    @property
    def has_guesses(self) -> bool:
        """Whether some sequences may get several tokens from it."""
        return any(row.num_guesses for row in self.rows)


@dataclass(slots=True)
class _Budget:
    """Prompt tokens that a step can still take: of all prompts, and of the long ones among them."""

    of_all: int
    of_long: int

    def take(self, count: int, *, is_long: bool) -> int:
        """As many of `count` as there are left."""
        taken = min(count, self.of_all, self.of_long) if is_long else min(count, self.of_all)
        self.of_all -= taken
        self.of_long -= taken if is_long else 0
        return taken


class Scheduler:
    """First come, first served, at step boundaries, as far as the cache reaches.

    Every running sequence that is past its prefill decodes in every step, unless it waits for its constraint. Where
    there are very few of them, and no prefills, they take guesses at their next tokens along. When the cache is full,
    the youngest sequences give their blocks back and are computed again later. Prefills share `prefill_chunk` tokens a
    step, oldest first. Beside decoding sequences a long prompt gets no more than `mixed_chunk` for each prompt, or
    three for four decoding ones: so it slows the others' tokens by less than a factor of two. A short one costs them a
    single pause, so it is computed at once.

    Args:
        cache: the sequences' blocks.
        max_running: most sequences in a step.
        prefill_chunk: most prompt tokens in a step.
        mixed_chunk: most of one long prompt beside few decoding sequences.
        short_prompt: tokens still to be computed of a prompt that is not long.
        max_guesses: most guesses of a sequence in a step.
    """

    def __init__(
        self,
        cache: KVCacheManager,
        *,
        max_running: int,
        prefill_chunk: int,
        mixed_chunk: int,
        short_prompt: int = 0,
        max_guesses: int = 0,
    ) -> None:
        if min(max_running, prefill_chunk, mixed_chunk) < 1:
            raise ValueError(f"A step has at least one sequence and one token: {max_running}, {prefill_chunk}.")
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # oldest first
        self.num_preemptions = 0
        self.num_guesses = self.num_right_guesses = 0
        self._cache = cache
        self._max_running = max_running
        self._prefill_chunk = prefill_chunk
        self._mixed_chunk = mixed_chunk
        self._short_prompt = short_prompt
        self._max_guesses = max_guesses

    @property
    def num_free_slots(self) -> int:
        """Sequences that could run besides the present ones, as far as the cache reaches."""
        return max(0, self._max_running - len(self.running))

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        return bool(self.running or self.waiting)

    @property
    def cache_usage(self) -> float:
        """Share of the cache that running sequences hold, 0 to 1."""
        return self._cache.usage

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    def schedule(self) -> Batch:
        """Admit what fits and choose the next step's rows."""
        batch = Batch(copies=self._admit())
        counts = [sequence.num_uncomputed_tokens for sequence in self.running]
        budget = self._budget(counts.count(1), sum(count > 1 for count in counts))
        may_guess = counts.count(1) == len(counts) <= MOST_GUESSING
        for sequence in list(self.running):
            count = sequence.num_uncomputed_tokens
            if count > 1:
                count = budget.take(count, is_long=count > self._short_prompt)
            if count and self._make_room(sequence, sequence.num_computed_tokens + count):
                guesses = self._guesses(sequence) if may_guess else []
                batch.sequences.append(sequence)
                batch.rows.append(_row(sequence, count, guesses))
        return batch

    def advance(self, batch: Batch) -> None:
        """Note that the batch's tokens are in the cache now."""
        for sequence, row in zip(batch.sequences, batch.rows, strict=True):
            self._note_computed(sequence, len(row.token_ids) - row.num_guesses)
            self.num_guesses += row.num_guesses

    def confirm_guess(self, sequence: Sequence) -> None:
        """Note that the sequence's newest token was guessed, and is in the cache already."""
        self._note_computed(sequence, 1)
        self.num_right_guesses += 1

    def _note_computed(self, sequence: Sequence, num_tokens: int) -> None:
        sequence.num_computed_tokens += num_tokens
        self._cache.note_computed(sequence)

    def remove(self, sequence: Sequence, *, is_sound: bool = True) -> None:
        """Take the sequence out, wherever it stands, and free its blocks.

        Args:
            sequence: waits or runs.
            is_sound: whether what was computed of it can be of use to others.
        """
        if sequence.status is not SequenceStatus.RUNNING:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self._cache.close(sequence, keep=is_sound)

    def shrink(self, batch: Batch) -> bool:
        """Run half as many sequences, and prompts in half as large parts, from now on.

        Returns:
            False when the batch was of one token already.
        """
        if sum(len(row.token_ids) for row in batch.rows) <= 1:
            return False
        self._max_running = max(1, len(batch.rows) // 2)
        self._prefill_chunk = max(1, min(self._prefill_chunk, max(len(row.token_ids) for row in batch.rows)) // 2)
        while len(self.running) > self._max_running:
            self._preempt(self.running[-1])
        return True

    def check_idle(self) -> None:
        """Raises `RuntimeError` when a block is held although nothing runs."""
        if not self.running and self._cache.num_held:
            raise RuntimeError(f"{self._cache.num_held} blocks are held, but no sequence runs.")

    def _admit(self) -> list[BlockCopy]:
        """Start what there is room for; nobody overtakes one that does not fit."""
        copies: list[BlockCopy] = []
        for sequence in list(islice(self.waiting, self._max_running)):
            if len(self.running) >= self._max_running:
                break
            if sequence.is_undecided:
                continue  # it would hold blocks and compute nothing
            if any(self._cache.shares_with(sequence, other) for other in self.running):
                continue  # soon it need not be computed
            opened = self._cache.open(sequence, headroom=sum(map(self._cache.can_grow, self.running)))
            if opened is None:
                break
            copies += opened
            self.waiting.remove(sequence)
            sequence.status = SequenceStatus.RUNNING
            self.running.append(sequence)
        return copies

    def _budget(self, num_decoding: int, num_prefilling: int) -> _Budget:
        """The oldest prompt takes what it can, so that a burst's first answers begin early."""
        if not num_decoding:
            return _Budget(self._prefill_chunk, self._prefill_chunk)
        of_long = min(self._prefill_chunk, max(self._mixed_chunk, int(MIXED_SHARE * num_decoding)) * num_prefilling)
        return _Budget(min(self._prefill_chunk, max(of_long, self._short_prompt)), of_long)

    def _guesses(self, sequence: Sequence) -> list[int]:
        """What may follow the sequence's newest token, as far as there is room for it and for one token more."""
        count = min(
            self._max_guesses,
            sequence.params.max_new_tokens - sequence.num_output_tokens - 1,
            self._cache.context_length - sequence.num_tokens - 1,
        )
        if count <= 0 or sequence.reads_history:
            return []
        guesses = sequence.guess(count)
        return guesses if self._cache.grow(sequence, sequence.num_tokens + len(guesses)) else []

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        """Get the sequence its blocks, at the cost of younger ones; false when it had to give up its own."""
        while sequence.status is SequenceStatus.RUNNING and not self._cache.grow(sequence, num_tokens):
            self._preempt(self.running[-1])
        return sequence.status is SequenceStatus.RUNNING

    def _preempt(self, sequence: Sequence) -> None:
        """Have the youngest sequence wait, before all others, until it can be computed again."""
        self.running.remove(sequence)
        self._cache.close(sequence, keep=True)
        sequence.status = SequenceStatus.WAITING
        self.waiting.appendleft(sequence)
        self.num_preemptions += 1


def _row(sequence: Sequence, count: int, guesses: list[int]) -> Row:
    is_known = sequence.num_computed_tokens < sequence.num_tokens  # else it is the pending token's turn
    return Row(
        blocks=tuple(sequence.blocks),
        token_ids=(*sequence.uncomputed_ids(count), *guesses) if is_known else (ANY_TOKEN,),
        start=sequence.num_computed_tokens,
        adapter=sequence.adapter,
        needs_logits=count == sequence.num_uncomputed_tokens,
        num_guesses=len(guesses),
        source=None if is_known else sequence.source,
    )
