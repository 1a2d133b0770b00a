"""Prepares a job before it takes capacity: compiles its grammar, and encodes and measures a long prompt.

An invalid grammar or a prompt that is too long ends the job here. A grammar's process is kept for the generation; the
prompt is encoded again, because that is fast enough.
"""

from __future__ import annotations

from common.jobs.job import GenerateParams
from common.jobs.preparation import grammar_key, is_long
from common.jobs.sampling import Grammar
from common.jobs.store import JobStore
from worker.engine.prompts.reasoning import AUTO
from worker.engine.sequence import Sequence
from worker.jobs.acquire import AcquiredModel, acquire_text
from worker.jobs.active import ActiveJob
from worker.jobs.rendering import in_form, reasoning_of, rendered
from worker.model.manager import ModelManager


class Preparation:
    """Prepares one claimed generation. An unloaded model or adapter is loaded for it."""

    def __init__(self, store: JobStore, model_manager: ModelManager, reasoning_parser: str = AUTO) -> None:
        self._reasoning_parser = reasoning_parser
        self._store = store
        self._model_manager = model_manager

    def run(self, job: ActiveJob) -> None:
        """Prepare the job, and move it to the queue for generations.

        Raises:
            SLMError: the job fails with it.
            GivenUp: the job was given up, or the model unloaded.
            Fenced: another attempt owns the job.
        """
        params = GenerateParams.from_dict(job.job.params)
        with acquire_text(self._model_manager, job) as acquired:
            if is_long(job.job.params):
                _check(job, params, acquired)
            if (grammar := self._grammar(job, params, acquired)) is not None:
                acquired.adapter.grammars.prepare(grammar, lambda: job.is_given_up)
        self._store.advance(job.job, job.attempt, grammar_key(params.sampling.grammar, job.job.adapter_id))

    def _grammar(self, job: ActiveJob, params: GenerateParams, acquired: AcquiredModel) -> Grammar | None:
        """Return the grammar that the generation will use. It depends on the prompt if the model may reason first."""
        if params.sampling.grammar is None:
            return None
        renderer, text = acquired.adapter.renderer, ""
        if params.splits_reasoning:
            text, _ = rendered(params, renderer, acquired.model.engine, lambda: job.is_given_up)
        return in_form(params, renderer, reasoning_of(params, text, renderer, self._reasoning_parser))


def _check(job: ActiveJob, params: GenerateParams, acquired: AcquiredModel) -> None:
    """Raise `SLMError` if the engine does not accept the prompt."""
    engine, adapter = acquired.model.engine, acquired.adapter
    _, prompt_ids = rendered(params, adapter.renderer, engine, lambda: job.is_given_up)
    engine.check(Sequence(job.sequence_id, prompt_ids, params.sampling, adapter.id))
