"""Decides which sequences run, and which of their tokens the next step computes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from worker.engine.kv_cache.manager import BlockCopy, KVCacheManager
from worker.engine.model_runner import Row
from worker.engine.sequence import Sequence, SequenceStatus

ANY_TOKEN = 0  # placeholder for a token that is not known yet
MIXED_SHARE = 0.75  # prompt tokens per decoding token: more would slow decoding by more than a factor of two
# Sequences. With more of them, computing takes longer than reading the weights, so a rejected draft token costs time.
MAX_LOOKING_UP = 2


@dataclass(frozen=True, slots=True)
class ScheduledBatch:
    """The work of one step. `copies` are made first, in order; `sequences[i]` owns `rows[i]`."""

    sequences: list[Sequence] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    copies: list[BlockCopy] = field(default_factory=list)

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences that get a token from this step, in the order of the logits."""
        rows = zip(self.sequences, self.rows, strict=True)
        return [sequence for sequence, row in rows if row.needs_logits and not row.is_scored]

    @property
    def has_draft_tokens(self) -> bool:
        """Whether some rows have draft tokens."""
        return any(row.num_draft_tokens for row in self.rows)


@dataclass(slots=True)
class _Budget:
    """The prompt tokens that a step can still take: in total, and from long prompts."""

    total: int
    for_long: int

    def take(self, count: int, *, is_long: bool) -> int:
        """Take up to `count` tokens from the budget; return how many."""
        taken = min(count, self.total, self.for_long) if is_long else min(count, self.total)
        self.total -= taken
        self.for_long -= taken if is_long else 0
        return taken


class Scheduler:
    """Schedules first come, first served, at step boundaries, as far as the cache has room.

    Every running sequence that has finished its prefill decodes in every step, unless it waits for its constraint. It
    adds the tokens that its constraint forces as draft tokens. If there are very few sequences, and no prefills, the
    others look for draft tokens, too. If the cache is full, the youngest sequences are preempted: they free their
    blocks and are computed again later. Prefills share `prefill_chunk` tokens per step,
    oldest first. Together with decoding sequences, long prompts get at most `mixed_chunk` tokens per prompt, or three
    tokens for four decoding ones if that is more: so they slow decoding by less than a factor of two. A short prompt
    causes only a single pause, so it is computed in one step. Prompts with log probabilities are computed in pieces
    with as many rows of logits as draft tokens need.

    Args:
        cache: allocates the sequences' blocks.
        max_running: maximum sequences in a step.
        prefill_chunk: maximum prompt tokens in a step.
        mixed_chunk: maximum tokens of a long prompt in a step with few decoding sequences.
        short_prompt: a prompt with at most this many uncomputed tokens is short.
        max_draft_tokens: maximum draft tokens of a sequence in a step.
    """

    def __init__(
        self,
        cache: KVCacheManager,
        *,
        max_running: int,
        prefill_chunk: int,
        mixed_chunk: int,
        short_prompt: int = 0,
        max_draft_tokens: int = 0,
    ) -> None:
        if min(max_running, prefill_chunk, mixed_chunk) < 1:
            raise ValueError(f"A step has at least one sequence and one token: {max_running}, {prefill_chunk}.")
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # oldest first
        self.num_preemptions = 0
        self.num_draft_tokens = self.num_accepted_tokens = 0
        self._cache = cache
        self._max_running = max_running
        self._prefill_chunk = prefill_chunk
        self._mixed_chunk = mixed_chunk
        self._short_prompt = short_prompt
        self._max_draft_tokens = max_draft_tokens

    @property
    def has_work(self) -> bool:
        """Whether any sequence is running or waiting."""
        return bool(self.running or self.waiting)

    @property
    def cache_usage(self) -> float:
        """Share of the cache that running sequences use, from 0 to 1."""
        return self._cache.usage

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    def schedule(self) -> ScheduledBatch:
        """Admit the sequences that fit, and choose the next step's rows."""
        batch = ScheduledBatch(copies=self._admit())
        counts = [sequence.num_uncomputed_tokens for sequence in self.running]
        budget = self._budget(counts.count(1), sum(count > 1 for count in counts))
        may_look_up = counts.count(1) == len(counts) <= MAX_LOOKING_UP
        for sequence in list(self.running):
            count = sequence.num_uncomputed_tokens
            is_decoding = count == 1
            if count > 1:
                count = budget.take(count, is_long=count > self._short_prompt)
            num_unscored = sequence.num_unscored_tokens
            if num_unscored:
                count = min(count, num_unscored, 1 + self._max_draft_tokens)  # as many rows of logits as with drafts
            if count and self._make_room(sequence, sequence.num_computed_tokens + count):
                draft_tokens = self._draft_tokens(sequence, may_look_up=may_look_up) if is_decoding else []
                batch.sequences.append(sequence)
                batch.rows.append(_row(sequence, count, draft_tokens, is_scored=num_unscored > 0))
        return batch

    def advance(self, batch: ScheduledBatch) -> None:
        """Record that the batch's tokens are in the cache now."""
        for sequence, row in zip(batch.sequences, batch.rows, strict=True):
            self._note_computed(sequence, len(row.token_ids) - row.num_draft_tokens)
            self.num_draft_tokens += row.num_draft_tokens

    def accept_draft_token(self, sequence: Sequence) -> None:
        """Record that the sequence's newest token was an accepted draft token, which is in the cache already."""
        self._note_computed(sequence, 1)
        self.num_accepted_tokens += 1

    def _note_computed(self, sequence: Sequence, num_tokens: int) -> None:
        sequence.num_computed_tokens += num_tokens
        self._cache.note_computed(sequence)

    def remove(self, sequence: Sequence, *, is_sound: bool = True) -> None:
        """Remove a waiting or running sequence and free its blocks.

        Args:
            sequence: a waiting or running sequence.
            is_sound: whether its blocks are valid, so that others may reuse them.
        """
        if sequence.status is not SequenceStatus.RUNNING:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self._cache.free(sequence, reusable=is_sound)

    def shrink(self, batch: ScheduledBatch) -> bool:
        """Halve the number of running sequences and the size of prompt chunks from now on.

        Returns:
            False if the batch had only one token.
        """
        if sum(len(row.token_ids) for row in batch.rows) <= 1:
            return False
        self._max_running = max(1, len(batch.rows) // 2)
        self._prefill_chunk = max(1, min(self._prefill_chunk, max(len(row.token_ids) for row in batch.rows)) // 2)
        while len(self.running) > self._max_running:
            self._preempt(self.running[-1])
        return True

    def check_idle(self) -> None:
        """Raise `RuntimeError` if a block is in use although nothing runs."""
        if not self.running and self._cache.num_used:
            raise RuntimeError(f"{self._cache.num_used} blocks are in use, but no sequence runs.")

    def _admit(self) -> list[BlockCopy]:
        """Start the sequences that fit; none may overtake a sequence that does not fit."""
        copies: list[BlockCopy] = []
        for sequence in list(islice(self.waiting, self._max_running)):
            if len(self.running) >= self._max_running:
                break
            if sequence.is_undecided:
                continue  # it would use blocks without computing anything
            if any(self._cache.shares_with(sequence, other) for other in self.running):
                continue  # soon its prefix can be shared instead of computed
            new_copies = self._cache.allocate(sequence, headroom=sum(map(self._cache.may_extend, self.running)))
            if new_copies is None:
                break
            copies += new_copies
            sequence.note_cached()
            self.waiting.remove(sequence)
            sequence.status = SequenceStatus.RUNNING
            self.running.append(sequence)
        return copies

    def _budget(self, num_decoding: int, num_prefilling: int) -> _Budget:
        """Return the step's budget. The oldest prompt goes first, so that the first answers of a burst begin early."""
        if not num_decoding:
            return _Budget(self._prefill_chunk, self._prefill_chunk)
        for_long = min(self._prefill_chunk, max(self._mixed_chunk, int(MIXED_SHARE * num_decoding)) * num_prefilling)
        return _Budget(min(self._prefill_chunk, max(for_long, self._short_prompt)), for_long)

    def _draft_tokens(self, sequence: Sequence, *, may_look_up: bool) -> list[int]:
        """Return draft tokens for the sequence, as far as there is room for them and one more token."""
        count = min(
            self._max_draft_tokens,
            sequence.params.max_new_tokens - sequence.num_output_tokens - 1,
            self._cache.context_length - sequence.num_tokens - 1,
        )
        if count <= 0:
            return []
        draft_tokens = sequence.draft_tokens(count, may_look_up=may_look_up)
        return draft_tokens if self._cache.extend(sequence, sequence.num_tokens + len(draft_tokens)) else []

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        """Extend the sequence's blocks, preempting younger sequences; return False if it had to be preempted itself."""
        while sequence.status is SequenceStatus.RUNNING and not self._cache.extend(sequence, num_tokens):
            self._preempt(self.running[-1])
        return sequence.status is SequenceStatus.RUNNING

    def _preempt(self, sequence: Sequence) -> None:
        """Move the sequence to the front of the queue, to be computed again later."""
        self.running.remove(sequence)
        self._cache.free(sequence, reusable=True)
        sequence.status = SequenceStatus.WAITING
        self.waiting.appendleft(sequence)
        self.num_preemptions += 1


def _row(sequence: Sequence, count: int, draft_tokens: list[int], *, is_scored: bool) -> Row:
    is_known = sequence.num_computed_tokens < sequence.num_tokens  # otherwise the row computes the pending token
    return Row(
        blocks=tuple(sequence.blocks),
        token_ids=(*sequence.uncomputed_ids(count), *draft_tokens) if is_known else (ANY_TOKEN,),
        start=sequence.num_computed_tokens,
        adapter=sequence.adapter,
        needs_logits=is_scored or count == sequence.num_uncomputed_tokens,
        is_scored=is_scored,
        num_draft_tokens=len(draft_tokens),
        source=None if is_known else sequence.source,
    )
