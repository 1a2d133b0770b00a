"""What a generate or stream job does on its worker."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from common import events
from common.errors import JobTimeout
from common.event_log import EventLog
from common.events import Event, EventType
from common.job_store import JobStore
from common.jobs import GenerateParams, GenerateResult, JobState
from worker.engine.engine import Engine
from worker.engine.sequence import FinishReason, Sequence, SequenceOutput
from worker.held_jobs import Fate, HeldJob
from worker.metrics import WorkerMetrics
from worker.model_keeper import Loan, ModelKeeper
from worker.traces import AttemptTrace, Traces


class Generation:
    """Runs one claimed job: borrow the model, render the prompt, submit, wait, record the result.

    An attempt that follows another one re-reads what that one committed and goes on behind it.
    """

    def __init__(
        self, store: JobStore, log: EventLog, keeper: ModelKeeper, metrics: WorkerMetrics, traces: Traces
    ) -> None:
        self._metrics = metrics
        self._traces = traces
        self._store = store
        self._log = log
        self._keeper = keeper

    def run(self, job: HeldJob) -> None:
        """Run the job to its end or until it is given up.

        Raises:
            SLMError: the job fails with it.
            GivenUp: the job was given up before it reached the engine.
            Fenced: another attempt owns the job.
        """
        self._metrics.taken_up(job)
        with self._traces.attempt(job) as trace:
            self._run(job, trace)

    def _run(self, job: HeldJob, trace: AttemptTrace) -> None:
        earlier = self._log.read(job.id)
        with self._keeper.borrow(lambda: job.is_given_up, lambda: _tell(job, earlier, "Loading SLM model...")) as loan:
            if loan.loaded_for_it:
                _tell(job, earlier, f"Model loaded on {loan.serving.device}")
            self._generate(job, loan, earlier, trace)

    def _generate(self, job: HeldJob, loan: Loan, earlier: list[Event], trace: AttemptTrace) -> None:
        params = GenerateParams.from_dict(job.job.params)
        prompt_text, prompt_ids = loan.serving.renderer.render(
            params.prompt, lambda: job.is_given_up, loan.serving.engine.check_length
        )
        committed_ids, committed_text = events.committed(earlier)
        sequence = Sequence(
            job.sequence_id, prompt_ids, params.sampling, output_ids=committed_ids, emitted_text=committed_text
        )
        loan.serving.engine.check(sequence)
        with ExitStack() as at_end:
            if params.sampling.grammar is not None:
                sequence.constraint = loan.serving.grammars.compile(params.sampling.grammar, lambda: job.is_given_up)
                at_end.callback(sequence.constraint.close)
            _tell(job, earlier, "Generating response...")
            timeline = at_end.enter_context(self._metrics.in_engine(job, sequence))
            fate = _run_sequence(job, loan.serving.engine, sequence)
        trace.note_engine(timeline)
        if fate is Fate.DONE:
            self._record(job, sequence, prompt_text, loan)

    def _record(self, job: HeldJob, sequence: Sequence, prompt_text: str, loan: Loan) -> None:
        output = job.final_output
        assert output is not None  # noqa: S101 - DONE comes with the final output
        if output.error is not None:
            raise output.error
        if isinstance(job.end_reason, JobTimeout):
            raise job.end_reason
        log = self._log.read(job.id)
        text = events.committed(log)[1] + output.text
        result = GenerateResult(
            response=text.strip() if sequence.constraint is None else text,  # of a grammar's answer each space counts
            full_response=prompt_text + text,
            finish_reason=str(output.finish_reason),
            device=loan.serving.device,
            prompt_tokens=output.num_prompt_tokens,
            completion_tokens=output.num_output_tokens,
            first_token_ms=job.first_token_ms,
            logprobs=_logprobs(log, output),
        )
        cancelled = output.finish_reason is FinishReason.CANCELLED
        state = JobState.CANCELLED if cancelled else JobState.SUCCEEDED
        end = self._store.end_cancelled if cancelled else self._store.succeed
        end(job.id, job.attempt, result.to_dict(), self._last_events(job, output, state, loan))

    @staticmethod
    def _last_events(job: HeldJob, output: SequenceOutput, state: JobState, loan: Loan) -> list[Event]:
        last = events.token(job.take_seq(), output.text, output.token_ids, is_last=True, logprobs=output.logprobs)
        return [last, events.finished(job.take_seq(), state, str(output.finish_reason), loan.serving.device)]


def _logprobs(log: list[Event], output: SequenceOutput) -> list[Any] | None:
    """Of the whole answer, in wire form; None where nobody asked."""
    if output.logprobs is None:
        return None
    return [one.to_wire() for one in [*(events.logprobs(log) or ()), *output.logprobs]]


def _run_sequence(job: HeldJob, engine: Engine, sequence: Sequence) -> Fate:
    """Have the engine compute it, until its end or until the job is given up."""
    engine.submit(sequence)
    job.wait()
    if job.end_reason is not None:
        engine.cancel(job.sequence_id)
    fate = job.wait_for_fate()
    if fate is not Fate.DONE:
        engine.release([job.sequence_id])
    return fate


def _tell(job: HeldJob, earlier: list[Event], line: str) -> None:
    """Emit a status line, unless an earlier attempt has said it."""
    if not any(event.type is EventType.STATUS and event.data["status"] == line for event in earlier):
        job.status(line)
