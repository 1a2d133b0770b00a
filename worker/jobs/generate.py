"""Runs generate and stream jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from common.errors import InvalidRequest, JobTimeout
from common.jobs.event_log import EventLog
from common.jobs.events import AnswerSyntax
from common.jobs.job import GenerateParams, GenerateResult, JobState
from common.jobs.prompts import RawText
from common.jobs.reasoning import num_reasoning_tokens
from common.jobs.sampling import ALL_TOKENS, MAX_LOGPROBS, Grammar, GrammarKind, SamplingParams
from common.jobs.store import JobStore
from worker.engine.output.call_marker import CallMarker
from worker.engine.prompts.reasoning import AUTO
from worker.engine.sequence import FinishReason, Sequence, SequenceOutput
from worker.helper.given_up import never
from worker.jobs.acquire import AcquiredModel, acquire
from worker.jobs.active import ActiveJob, Outcome
from worker.jobs.attempt_events import GENERATING
from worker.jobs.observer import Observer
from worker.jobs.rendering import in_form, reasoning_of, rendered
from worker.model.manager import ModelManager
from worker.model.protocols import Renderer
from worker.observation.metrics import Timeline

MAX_SCORES = 65_536  # log probabilities of a prompt or an answer, which are kept in the job's record


@dataclass(frozen=True, slots=True)
class _Request:
    """A sequence, and the model that computes it.

    `syntax`: of the answer. `prompt_ids`: to tell the client.
    """

    acquired: AcquiredModel
    prompt_text: str
    sequence: Sequence
    syntax: AnswerSyntax
    prompt_ids: list[int] | None


class Generation:
    """Runs one claimed job: acquire the model, prepare the sequence, compute it, record the result.

    A later attempt reads the committed events of earlier ones once, and continues after them.
    """

    def __init__(
        self,
        store: JobStore,
        log: EventLog,
        model_manager: ModelManager,
        observer: Observer,
        reasoning_parser: str = AUTO,
    ) -> None:
        self._reasoning_parser = reasoning_parser
        self._store = store
        self._log = log
        self._model_manager = model_manager
        self._observer = observer

    def run(self, job: ActiveJob) -> None:
        """Run the job to its end or until it is given up.

        Raises:
            SLMError: the job fails with it.
            GivenUp: the job was given up before it reached the engine.
            Fenced: another attempt owns the job.
        """
        with self._observer.attempt(job) as attempt:
            if not job.events.are_first:
                job.events.resume(self._log.read(job.id))
            with self._acquired(job) as acquired, _prepared(job, acquired, self._reasoning_parser) as request:
                job.events.announce(GENERATING, request.syntax, request.prompt_ids)
                with attempt.in_engine(request.sequence) as timeline:
                    output = _compute(job, request)
                if output is not None:
                    self._record(job, request, output, timeline)

    @contextmanager
    def _acquired(self, job: ActiveJob) -> Iterator[AcquiredModel]:
        """Acquire model and adapter; if one has to be loaded first, the client is informed."""
        with acquire(self._model_manager, job) as acquired:
            if acquired.loaded_for_it:
                job.events.announce(f"Model loaded on {acquired.model.device}")
            yield acquired

    def _record(self, job: ActiveJob, request: _Request, output: SequenceOutput, timeline: Timeline) -> None:
        """Write the answer and its last events to the store. Raises the error if the job has failed."""
        if output.error is not None:
            raise output.error
        if isinstance(job.end_reason, JobTimeout):
            raise job.end_reason
        cancelled = output.finish_reason is FinishReason.CANCELLED
        state = JobState.CANCELLED if cancelled else JobState.SUCCEEDED
        last = [
            job.events.token(output, is_last=True),
            job.events.finished(state, str(output.finish_reason), request.acquired.model.device),
        ]
        end = self._store.end_cancelled if cancelled else self._store.succeed
        end(job.id, job.attempt, _result(job, request, output, timeline).to_dict(), last)


@contextmanager
def _prepared(job: ActiveJob, acquired: AcquiredModel, reasoning_parser: str) -> Iterator[_Request]:
    """Render the prompt and compile the grammar, which is kept for the duration of the `with` block.

    Raises:
        SLMError: the engine does not accept the request.
        GivenUp: the job was given up meanwhile.
    """
    params = GenerateParams.from_dict(job.job.params)
    engine, adapter = acquired.model.engine, acquired.adapter
    prompt_text, prompt_ids = rendered(params, adapter.renderer, engine, lambda: job.is_given_up)
    sequence = Sequence(
        job.sequence_id,
        prompt_ids,
        _sampling(params, adapter.renderer),
        adapter.id,
        output_ids=list(job.events.token_ids),
        emitted_text=job.events.text,
    )
    engine.check(sequence)
    _check_num_scores(sequence, engine.vocab_size)
    grammar = params.sampling.grammar
    sequence.calls = _call_marker(grammar, adapter.renderer)
    if (reported := job.events.syntax) is None:
        sequence.reasoning = reasoning_of(params, lambda: prompt_text, adapter.renderer, reasoning_parser)
    else:  # the first worker may be of another version, or have another parser
        sequence.reasoning = reported.reasoning
    if grammar is not None:
        whole = in_form(grammar, adapter.renderer, sequence.reasoning)
        sequence.constraint = adapter.grammars.compile(whole, lambda: job.is_given_up)
    try:
        syntax = AnswerSyntax(None if sequence.calls is None else sequence.calls.form.name, sequence.reasoning)
        yield _Request(acquired, prompt_text, sequence, syntax, prompt_ids if params.tells_prompt_ids else None)
    finally:
        if sequence.constraint is not None:
            sequence.constraint.close()


def _sampling(params: GenerateParams, renderer: Renderer) -> SamplingParams:
    """Return the sampling parameters with what depends on the tokenizer.

    That is the tokens that end the answer to this kind of prompt, and those of texts that have a bias.
    """
    sampling, end_ids = params.sampling, renderer.end_ids(params.prompt)
    of_texts = {
        token_id: bias
        for text, bias in params.text_bias.items()
        for token_id in renderer.render(RawText(text, is_bare=True), never, lambda _: None)[1]
    }
    return replace(
        sampling,
        stop_token_ids=(*sampling.stop_token_ids, *end_ids),
        logit_bias={**of_texts, **sampling.logit_bias} if of_texts else sampling.logit_bias,
    )


def _check_num_scores(sequence: Sequence, vocab_size: int) -> None:
    """Check that the log probabilities fit the job's record: those of the prompt, and many for each new token."""
    params, of_answer = sequence.params, "tokens up to the limit of the answer"
    wanted = {
        "prompt_logprobs": (params.prompt_logprobs, sequence.num_prompt_tokens, "tokens of the prompt"),
        "logprobs": (params.logprobs, params.max_new_tokens, of_answer),
        "logprob_token_ids": (len(params.logprob_token_ids), params.max_new_tokens, of_answer),
    }
    for field, (per_token, num_tokens, which) in wanted.items():
        num = num_tokens * (1 + (vocab_size if per_token == ALL_TOKENS else per_token or 0))
        is_usual = per_token is None or (field != "prompt_logprobs" and 0 <= per_token <= MAX_LOGPROBS)
        if not is_usual and num > MAX_SCORES:
            raise InvalidRequest(
                f"{field} must be such that all {which} together get at most {MAX_SCORES} log probabilities; here they "
                f"would get {num}",
                param=field,
            )


def _call_marker(grammar: Grammar | None, renderer: Renderer) -> CallMarker | None:
    if grammar is None or grammar.kind is not GrammarKind.TOOLS:
        return None
    return CallMarker(renderer.tool_form, renderer.marker_id)


def _compute(job: ActiveJob, request: _Request) -> SequenceOutput | None:
    """Run the sequence to its end in the engine; return None if the job was given up before."""
    engine, sequence = request.acquired.model.engine, request.sequence
    engine.submit(sequence)
    job.wait()
    if job.end_reason is not None:
        engine.cancel(job.sequence_id)
    if job.wait_for_outcome() is Outcome.DONE:
        return job.final_output
    engine.release([job.sequence_id])
    return None


def _result(job: ActiveJob, request: _Request, output: SequenceOutput, timeline: Timeline) -> GenerateResult:
    """Return the job's result, after all its token events."""
    text = job.events.text
    is_exact = request.sequence.constraint is not None  # a grammar's answer keeps its spaces
    return GenerateResult(
        response=text if is_exact else text.strip(),
        full_response=request.prompt_text + text,
        finish_reason=str(output.finish_reason),
        device=request.acquired.model.device,
        prompt_tokens=output.num_prompt_tokens,
        completion_tokens=output.num_output_tokens,
        first_token_ms=job.ms_since_claim(timeline.first_token_at),
        logprobs=job.events.logprobs,
        stop_string=output.stop_string,
        cached_tokens=output.num_cached_tokens,
        prompt_logprobs=None if output.prompt_logprobs is None else [one.to_wire() for one in output.prompt_logprobs],
        reasoning_tokens=_num_reasoning_tokens(job, request),
    )


def _num_reasoning_tokens(job: ActiveJob, request: _Request) -> int | None:
    if (reasoning := request.sequence.reasoning) is None:
        return None
    return num_reasoning_tokens(reasoning, request.acquired.adapter.renderer.tokens(job.events.token_ids))
