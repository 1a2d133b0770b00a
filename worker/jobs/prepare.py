"""Prepares a job before it takes capacity: compiles its grammar, and encodes and measures a long prompt.

An invalid grammar or a prompt that is too long ends the job here. A grammar's process is kept for the generation; the
prompt is encoded again, because that is fast enough.
"""

from __future__ import annotations

from functools import cache, partial

from common.jobs.job import GenerateParams
from common.jobs.preparation import grammar_key, is_long
from common.jobs.store import JobStore
from worker.engine.prompts.reasoning import AUTO
from worker.engine.sequence import Sequence
from worker.jobs.acquire import acquire_text
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
            engine, adapter = acquired.model.engine, acquired.adapter
            prompt = cache(partial(rendered, params, adapter.renderer, engine, lambda: job.is_given_up))
            if is_long(job.job.params):
                _, prompt_ids = prompt()
                engine.check(Sequence(job.sequence_id, prompt_ids, params.sampling, adapter.id))
            if (grammar := params.sampling.grammar) is not None:
                reasoning = reasoning_of(params, lambda: prompt()[0], adapter.renderer, self._reasoning_parser)
                adapter.grammars.prepare(in_form(grammar, adapter.renderer, reasoning), lambda: job.is_given_up)
        self._store.advance(job.job, job.attempt, grammar_key(params.sampling.grammar, job.job.adapter_id))
