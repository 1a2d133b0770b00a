"""The step loop: takes sequences from any thread, computes them in batches and delivers the output of each step."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from common.errors import AdapterNotFound, Conflict, InternalError, InvalidRequest, PromptTooLong, SLMError
from worker.engine.kv_cache.manager import KVCacheManager
from worker.engine.model_runner import DeviceLostError, Logits, ModelRunner, OutOfMemoryError, PreparedAdapter, Row
from worker.engine.output.detokenizer import TokenDecoder
from worker.engine.output.stopping import StopCriteria
from worker.engine.output.stream import OutputStream
from worker.engine.patience import Patience
from worker.engine.scheduler import ScheduledBatch, Scheduler
from worker.engine.sequence import (
    BASE_ADAPTER,
    FinishReason,
    SampledToken,
    Sequence,
    SequenceOutput,
    SequenceStatus,
)

logger = logging.getLogger(__name__)

Deliver = Callable[[list[SequenceOutput]], None]
Sample = SampledToken | SLMError  # a token, or the error that ends its sequence
NextTokens = tuple[Sequence, list[Sample]]
T = TypeVar("T")


class TokenSampler(Protocol):
    """The interface of `sampler.Sampler` and `host.HostSampler` that the engine needs."""

    def sample(
        self, logits: Logits, sequences: list[Sequence], nums_drafts: list[int] | None = None
    ) -> list[SampledToken | SLMError]:
        """Return a token for each row, or an error that ends only its sequence.

        `nums_drafts` says how many draft tokens of its sequence come before each row's token.
        """
        ...

    def score(self, logits: Logits, token_ids: list[int], num_top: int) -> list[SampledToken]:
        """Return the log probabilities of given tokens, from the logits before each."""
        ...


class _Answers(NamedTuple):
    """How the tokens of a model or adapter become an answer: their text, and the tokens that end it."""

    decoder: TokenDecoder
    eos_token_ids: frozenset[int]


class Engine:
    """Runs sequences in one continuous batch.

    `submit`, `cancel`, `release`, `add_adapter`, `remove_adapter` and the counts may be called by any
    thread. They queue a request that the engine thread executes at the next step boundary, so that nothing changes
    during a forward. All forwards run on the engine thread, because CUDA graphs and the runner's cache belong to it.

    Args:
        runner: the model.
        sampler: chooses tokens from the runner's logits.
        decoder: converts tokens of the base model to text.
        eos_token_ids: tokens that end an answer of the base model.
        deliver: called once per step, by the engine thread, with all outputs of the step; must not block or raise.
        on_fatal: called once, by the engine thread, if the device has failed or the engine itself is broken. Its
            sequences get no final output: replace the process, and let another engine continue them from their
            committed tokens.
        prefill_chunk: prompt tokens computed per step, for all sequences together.
    """

    def __init__(
        self,
        runner: ModelRunner,
        sampler: TokenSampler,
        *,
        decoder: TokenDecoder,
        eos_token_ids: frozenset[int],
        deliver: Deliver,
        on_fatal: Callable[[Exception], None],
        prefill_chunk: int,
    ) -> None:
        self._runner = runner
        self._sampler = sampler
        self._criteria = StopCriteria(runner.context_length)
        self._deliver = deliver
        self._on_fatal = on_fatal
        self._scheduler = Scheduler(
            KVCacheManager(runner.num_blocks, runner.block_tokens, runner.context_length),
            max_running=runner.max_num_seqs,
            prefill_chunk=prefill_chunk,
            mixed_chunk=runner.mixed_chunk,
            short_prompt=runner.short_prompt,
            max_draft_tokens=runner.max_draft_tokens,
        )
        self._answers = {BASE_ADAPTER: _Answers(decoder, eos_token_ids)}  # by adapter; only the engine thread writes it
        # Used only by the engine thread:
        self._streams: dict[str, OutputStream] = {}  # of the admitted sequences, by id
        self._outputs: list[SequenceOutput] = []  # of the current step
        self._undecided: list[OutputStream] = []  # those that wait for their constraints
        self._patience = Patience()
        # Guarded by _changed:
        self._changed = threading.Condition()
        self._ids: set[str] = set()  # of all sequences that have not ended
        self._requests: list[Callable[[], None]] = []
        self._is_stopping = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def num_running(self) -> int:
        """Number of running sequences."""
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        """Number of sequences that wait for admission or for room in the cache."""
        return max(0, len(self._ids) - self.num_running)

    @property
    def kv_usage(self) -> float:
        """Share of the cache that running sequences use, from 0 to 1."""
        return self._scheduler.cache_usage

    @property
    def num_preemptions(self) -> int:
        """How often a sequence was preempted: its blocks were freed, and it had to be computed again."""
        return self._scheduler.num_preemptions

    @property
    def num_draft_tokens(self) -> int:
        """Number of draft tokens."""
        return self._scheduler.num_draft_tokens

    @property
    def num_accepted_tokens(self) -> int:
        """Number of accepted draft tokens."""
        return self._scheduler.num_accepted_tokens

    def start(self) -> None:
        """Start the engine thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop at the next step boundary and wait for it. Sequences that still run then end with an error.

        For a graceful shutdown call `release` first. A stopped engine cannot be started again.
        """
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def vocab_size(self) -> int:
        """Number of tokens of the model."""
        return self._runner.vocab_size

    def check(self, sequence: Sequence) -> None:
        """Check that the sequence can run, without queueing it.

        Raises:
            PromptTooLong: the prompt and one token of an answer do not fit the context.
            InvalidRequest: the prompt has no token, or it or the sampling parameters have one that the model lacks.
            AdapterNotFound: its adapter was not added.
            InternalError: a token of the answer is not in the model's vocabulary.
        """
        if sequence.num_prompt_tokens == 0:
            raise InvalidRequest("The prompt has no token.", param="prompt")
        self.check_length(sequence.num_prompt_tokens, is_exact=True)
        sequence.check_tokens(self._runner.vocab_size)
        if sequence.adapter not in self._answers:
            raise AdapterNotFound(f"No adapter {sequence.adapter!r} is loaded.", param="adapter")

    def check_length(self, num_prompt_tokens: int, *, is_exact: bool = False) -> None:
        """Check that a prompt of that many tokens (a lower bound unless `is_exact`) can run.

        Raises:
            PromptTooLong: the prompt and one token of an answer do not fit the context.
        """
        context_length = self._runner.context_length
        if num_prompt_tokens + 1 > context_length:
            number = f"{num_prompt_tokens}" if is_exact else f"at least {num_prompt_tokens}"
            # The first words are OpenAI's: LiteLLM and others recognise the error by them.
            raise PromptTooLong(
                f"This model's maximum context length is {context_length} tokens, for prompt and answer together. The "
                f"prompt has {number} tokens; the limit is {context_length - 1}.",
                param="prompt",
            )

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence.

        Raises:
            SLMError: as `check`.
            InternalError: `emitted_text` does not match `output_ids`, or the engine has a sequence with that id.
            Conflict: the engine is stopping or has stopped.
        """
        self.check(sequence)
        answers = self._answers[sequence.adapter]
        sequence.eos_token_ids = answers.eos_token_ids
        stream = OutputStream(sequence, answers.decoder, self._criteria)
        with self._changed:
            if sequence.sequence_id in self._ids:
                raise InternalError(f"Sequence {sequence.sequence_id} is already in the engine.")
            if not self._request(partial(self._admit, stream)):
                raise Conflict("The model is being unloaded.")
            self._ids.add(sequence.sequence_id)

    def cancel(self, sequence_id: str) -> None:
        """End a submitted sequence with reason CANCELLED at the next step boundary; no effect if it has ended."""
        self._request(partial(self._cancel, sequence_id))

    def release(self, sequence_ids: Iterable[str]) -> frozenset[str]:
        """Remove sequences at a token boundary without a final output, so that another engine can continue them.

        Blocks until the boundary; must not be called from `deliver`.

        Returns:
            The ids of the removed sequences: all their outputs have been delivered. The others have ended, with a
            final output that may be delivered with this step.
        """
        released = self._at_boundary(partial(self._release, list(sequence_ids)))
        return released.result() if released.done() else frozenset()

    def add_adapter(
        self, adapter_id: str, prepared: PreparedAdapter, *, decoder: TokenDecoder, eos_token_ids: frozenset[int]
    ) -> None:
        """Let sequences use an adapter.

        Blocks until the next step boundary; must not be called from `deliver`. If it fails, the adapter is still the
        caller's to close.

        Args:
            adapter_id: identifies its content, since cached keys and values are shared by this id.
            prepared: the adapter, prepared by the runner.
            decoder: converts the adapter's tokens to text.
            eos_token_ids: tokens that end the adapter's answers.

        Raises:
            Conflict: the engine is stopping or has stopped.
            ValueError, OutOfMemoryError: as `ModelRunner.add_adapter`.
        """
        answers = _Answers(decoder, eos_token_ids)
        added = self._at_boundary(partial(self._add_adapter, adapter_id, prepared, answers))
        if not added.done():
            raise Conflict("The model is being unloaded.")
        if (error := added.result()) is not None:
            raise error

    def remove_adapter(self, adapter_id: str) -> None:
        """Remove an adapter that no sequence uses, at the next step boundary.

        What the cache keeps of its sequences remains valid: the id stands for the same content for ever.
        """
        self._request(partial(self._remove_adapter, adapter_id))

    def step(self) -> None:
        """Schedule, compute, sample, update: one token for each sequence that has finished its prefill."""
        self._apply_requests()
        batch = self._scheduler.schedule()
        if batch.rows:
            self._update(self._execute(batch))
        self._conclude()

    def _execute(self, batch: ScheduledBatch) -> list[NextTokens]:
        """Run the model. If the whole forward fails, all its sequences fail, and the engine continues."""
        try:
            for copy in batch.copies:
                self._runner.copy_block(copy.source, copy.target, copy.num_tokens)
            results = self._compute(batch)
        except DeviceLostError:
            raise
        except OutOfMemoryError as error:
            if self._scheduler.shrink(batch):
                logger.warning("Not enough memory for a step (%s): steps are limited to half its size now.", error)
                return []
            return _failed(batch, "Not enough memory for a single token.")
        except Exception:
            logger.exception("A step of %d sequences failed.", len(batch.sequences))
            return _failed(batch, "The model failed to compute a step.")
        self._scheduler.advance(batch)
        return results

    def _compute(self, batch: ScheduledBatch) -> list[NextTokens]:
        logits = self._score_prompts(batch, self._runner.forward(batch.rows))
        if batch.has_draft_tokens:
            return self._check_draft_tokens(batch, logits)
        samples = self._sampler.sample(logits, batch.sampled)
        return [(sequence, [sample]) for sequence, sample in zip(batch.sampled, samples, strict=True)]

    def _score_prompts(self, batch: ScheduledBatch, logits: Logits) -> Logits:
        """Keep the log probabilities of the prompts' tokens; return the logits from which tokens are sampled."""
        if not any(row.is_scored for row in batch.rows):
            return logits
        others: list[int] = []
        end = 0
        for sequence, row in zip(batch.sequences, batch.rows, strict=True):
            begin, end = end, end + row.num_logits
            if not row.is_scored:
                others += range(begin, end)
                continue
            next_ids = sequence.ids(row.start + 1, len(row.token_ids))
            scores = self._sampler.score(logits[begin:end], next_ids, sequence.params.prompt_logprobs or 0)
            sequence.prompt_scores[row.start :] = scores
        return logits[others]

    def _check_draft_tokens(self, batch: ScheduledBatch, logits: Logits) -> list[NextTokens]:
        """Return each sequence's next tokens: the accepted draft tokens, and the first token after them.

        Each is sampled as without draft tokens, from the logits after the tokens before it.
        """
        rows = [(sequence, row) for sequence, row in zip(batch.sequences, batch.rows, strict=True) if row.needs_logits]
        rows = [(sequence, row) for sequence, row in rows if not row.is_scored]
        owners = [sequence for sequence, row in rows for _ in range(row.num_logits)]
        samples = iter(self._sampler.sample(logits, owners, [num for _, row in rows for num in range(row.num_logits)]))
        return [(sequence, _accepted(row, list(islice(samples, row.num_logits)))) for sequence, row in rows]

    def _update(self, results: list[NextTokens]) -> None:
        for sequence, samples in results:
            stream = self._streams[sequence.sequence_id]
            try:
                self._append(stream, samples)
            except SLMError as error:
                self._finish(stream, FinishReason.ERROR, error)

    def _append(self, stream: OutputStream, samples: list[Sample]) -> None:
        if stream.sequence.params.max_new_tokens == 0:
            return self._finish(stream, FinishReason.LENGTH)
        for index, sample in enumerate(samples):
            if index > 0:  # the previous one was an accepted draft token
                self._scheduler.accept_draft_token(stream.sequence)
            if isinstance(sample, SLMError):
                raise sample
            stream.append(sample)
            if not stream.decide():
                return self._undecided.append(stream)
            if stream.finish_reason is not None:
                return self._finish(stream, stream.finish_reason)
        if (output := stream.take()) is not None:
            self._outputs.append(output)
        return None

    def _conclude(self) -> None:
        """Deliver the step's outputs, then those of the sequences that wait for their constraints.

        A sequence with a constraint that takes longer than the engine may wait skips the next steps.
        """
        self._deliver_outputs()
        if not self._undecided:
            return
        undecided, self._undecided = self._undecided, []
        with self._patience.waiting() as deadline:
            for stream in undecided:
                if self._streams.get(stream.sequence.sequence_id) is stream:
                    self._decide(stream, max(0.0, deadline - time.monotonic()))
        self._deliver_outputs()

    def _decide(self, stream: OutputStream, timeout_s: float = 0.0) -> None:
        """Continue or end the sequence, if its constraint is known by now."""
        try:
            if not stream.decide(timeout_s):
                self._undecided.append(stream)
            elif stream.finish_reason is not None:
                self._finish(stream, stream.finish_reason)
            elif (output := stream.take()) is not None:
                self._outputs.append(output)
        except SLMError as error:
            self._finish(stream, FinishReason.ERROR, error)

    def _finish(self, stream: OutputStream, reason: FinishReason, error: SLMError | None = None) -> None:
        """Create the final output and forget the sequence."""
        stream.finish(reason)
        self._outputs.append(stream.take_final(error))
        self._forget(stream.sequence, SequenceStatus.FINISHED, is_sound=reason is not FinishReason.ERROR)

    def _forget(self, sequence: Sequence, status: SequenceStatus, *, is_sound: bool = True) -> None:
        self._scheduler.remove(sequence, is_sound=is_sound)
        sequence.status = status
        del self._streams[sequence.sequence_id]
        with self._changed:
            self._ids.remove(sequence.sequence_id)

    def _deliver_outputs(self) -> None:
        outputs, self._outputs = self._outputs, []
        if outputs:
            self._deliver(outputs)

    # Requests: queued by any thread, executed by the engine thread between two steps.

    def _request(self, action: Callable[[], None]) -> bool:
        """Queue a request; return False if the engine is stopping, so that it will not be executed."""
        with self._changed:
            if not self._is_stopping:
                self._requests.append(action)
                self._changed.notify_all()
            return not self._is_stopping

    def _at_boundary(self, action: Callable[[], T]) -> Future[T]:
        """Execute an action at the next step boundary, and wait for it; it is not done if the engine has stopped."""
        future: Future[T] = Future()
        self._request(lambda: self._fulfil(future, action()))
        with self._changed:
            self._changed.wait_for(lambda: future.done() or self._is_closed)
        return future

    def _fulfil(self, future: Future[T], result: T) -> None:
        future.set_result(result)
        with self._changed:
            self._changed.notify_all()

    def _apply_requests(self) -> None:
        with self._changed:
            requests, self._requests = self._requests, []
        for action in requests:
            action()

    def _admit(self, stream: OutputStream) -> None:
        self._streams[stream.sequence.sequence_id] = stream
        self._scheduler.add(stream.sequence)
        self._decide(stream)  # its committed tokens may be complete

    def _cancel(self, sequence_id: str) -> None:
        if (stream := self._streams.get(sequence_id)) is not None:
            self._finish(stream, FinishReason.CANCELLED)

    def _abort_all(self, error: SLMError) -> None:
        for stream in list(self._streams.values()):
            self._finish(stream, FinishReason.ERROR, error)

    def _release(self, sequence_ids: list[str]) -> frozenset[str]:
        streams = [self._streams[name] for name in sequence_ids if name in self._streams]
        for stream in streams:
            self._forget(stream.sequence, SequenceStatus.WAITING)
        return frozenset(stream.sequence.sequence_id for stream in streams)

    def _add_adapter(self, adapter_id: str, prepared: PreparedAdapter, answers: _Answers) -> Exception | None:
        """Return the error if it cannot be added, because that concerns no sequence."""
        try:
            self._runner.add_adapter(adapter_id, prepared)
        except DeviceLostError:
            raise
        except Exception as error:
            return error
        self._answers[adapter_id] = answers
        return None

    def _remove_adapter(self, adapter_id: str) -> None:
        self._runner.remove_adapter(adapter_id)
        del self._answers[adapter_id]

    # The engine thread.

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self.step()
            self._end()
        except Exception as error:
            logger.critical("The engine has failed.", exc_info=True)
            self._on_fatal(error)
        finally:
            with self._changed:
                self._is_stopping = self._is_closed = True
                self._changed.notify_all()

    def _wait_for_work(self) -> bool:
        """Sleep until there is work; return False if the engine must stop."""
        with self._changed:
            if not self._requests and not self._scheduler.has_work:
                self._scheduler.check_idle()
            self._changed.wait_for(lambda: self._requests or self._scheduler.has_work or self._is_stopping)
            return not self._is_stopping

    def _end(self) -> None:
        """Execute the requests from before the stop, and end the remaining sequences."""
        self._apply_requests()
        self._abort_all(Conflict("The model was unloaded while this ran."))
        self._deliver_outputs()


def _accepted(row: Row, samples: list[Sample]) -> list[Sample]:
    """Return the samples up to the first one that is not the row's draft token."""
    for index, draft_token in enumerate(row.draft_tokens):
        if not isinstance(sample := samples[index], SampledToken) or sample.token_id != draft_token:
            return samples[: index + 1]
    return samples


def _failed(batch: ScheduledBatch, reason: str) -> list[NextTokens]:
    """Return an error for each sequence of the batch."""
    return [(sequence, [InternalError(reason)]) for sequence in batch.sequences]
