"""The step loop for devices that compute on their own: a step starts before the previous one's tokens are known."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from common.errors import InternalError, SLMError
from worker.engine.engine import Engine, NextTokens, Sample, TokenSampler
from worker.engine.model_runner import DeviceLostError, OverlapRunner
from worker.engine.scheduler import ScheduledBatch
from worker.engine.sequence import Sequence, SequenceStatus

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


class StartedSamples(Protocol):
    """The interface of `samples.Samples` that the engine needs."""

    tokens: Tensor  # int64 [rows], on the device

    def fetch(self) -> list[Sample]:
        """Wait for the tokens."""
        ...


class OverlapSampler(TokenSampler, Protocol):
    """The interface of `sampler.Sampler` that the engine needs."""

    def start(self, logits: Tensor, sequences: list[Sequence], nums_drafts: list[int] | None = None) -> StartedSamples:
        """As `sample`, without waiting. The pending tokens of the sequences are not known."""
        ...


@dataclass(frozen=True, slots=True)
class _Launch:
    """A step that the device is computing or has computed."""

    sequences: list[Sequence]  # those that get a token from it
    samples: StartedSamples


class OverlapEngine(Engine):
    """An `Engine` over an `OverlapRunner`. Every sequence gets the same tokens as with `Engine`, one step later.

    While the device computes a step, the tokens of the previous step are fetched, read and delivered. So the next step
    is scheduled with one pending token per sequence: the device has it, but the host does not know it yet. If a pending
    token ends its sequence, that sequence has computed one row too many, and the row's token is dropped. Its blocks can
    be freed immediately: the device executes the work of a later owner after that row, and the row writes valid keys
    and values.

    The engine waits for pending tokens if a sequence's next token depends on them other than through the model
    (penalties, constraints), and before a sequence is removed.
    """

    _runner: OverlapRunner
    _sampler: OverlapSampler
    # Used only by the engine thread:
    _launched: _Launch | None = None  # the newest step; its tokens are pending
    _awaited: _Launch | None = None  # the previous step, while the newest is launched

    def step(self) -> None:
        """Schedule and launch a step, then take the tokens of the previous step."""
        self._apply_requests()
        if self._launched is not None and any(sequence.reads_history for sequence in self._launched.sequences):
            self._settle()
        self._conclude()
        self._awaited, self._launched = self._launched, None
        batch = self._scheduler.schedule()
        failures = self._execute(batch) if batch.rows else []
        self._take(self._awaited)
        self._update([failure for failure in failures if self._is_in_engine(failure[0])])
        self._conclude()
        if not self._scheduler.has_work:  # only superfluous rows are in flight
            self._settle()

    def _compute(self, batch: ScheduledBatch) -> list[NextTokens]:
        """Launch the step; its tokens are fetched later."""
        previous = None if self._awaited is None else self._awaited.samples.tokens
        sequences = batch.sampled
        samples = self._sampler.start(self._score_prompts(batch, self._runner.forward(batch.rows, previous)), sequences)
        self._launched = _Launch(sequences, samples)
        for index, sequence in enumerate(sequences):
            sequence.num_pending += 1
            sequence.source = index
            sequence.is_ending = self._criteria.is_full(sequence, num_more=sequence.num_pending)
        return []

    def _settle(self) -> None:
        """Wait for the step in flight, if any, and deliver its tokens."""
        launched, self._launched = self._launched, None
        self._take(launched)
        self._deliver_outputs()

    def _take(self, launch: _Launch | None) -> None:
        """Wait for a step's tokens; drop the tokens of sequences that have ended meanwhile."""
        if launch is None:
            return
        samples = _fetch(launch)
        taken = zip(launch.sequences, samples, strict=True)
        results: list[NextTokens] = [(sequence, [sample]) for sequence, sample in taken if self._is_in_engine(sequence)]
        for sequence, _ in results:
            sequence.num_pending -= 1
        self._update(results)

    def _is_in_engine(self, sequence: Sequence) -> bool:
        """Return whether the sequence has not ended; another sequence may have its id by now."""
        stream = self._streams.get(sequence.sequence_id)
        return stream is not None and stream.sequence is sequence

    def _forget(self, sequence: Sequence, status: SequenceStatus, *, is_sound: bool = True) -> None:
        super()._forget(sequence, status, is_sound=is_sound)
        sequence.num_pending, sequence.is_ending = 0, False

    # Requests that remove something first wait for the step in flight.

    def _cancel(self, sequence_id: str) -> None:
        self._settle()
        super()._cancel(sequence_id)

    def _abort_all(self, error: SLMError) -> None:
        self._settle()
        super()._abort_all(error)

    def _release(self, sequence_ids: list[str]) -> frozenset[str]:
        self._settle()
        return super()._release(sequence_ids)

    def _remove_adapter(self, adapter_id: str) -> None:
        self._settle()  # a superfluous row of its last sequence may be in flight
        super()._remove_adapter(adapter_id)


def _fetch(launch: _Launch) -> list[Sample]:
    """Return the tokens of a step, or an error for each of its sequences."""
    try:
        return launch.samples.fetch()
    except DeviceLostError:
        raise
    except Exception:
        logger.exception("A step of %d sequences failed.", len(launch.sequences))
        return [InternalError("The model failed to compute a step.") for _ in launch.sequences]
