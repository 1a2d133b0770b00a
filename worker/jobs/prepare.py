"""What is done for a job before it takes a slot: its grammar is compiled, and a long prompt is encoded and measured.

What is wrong with them ends the job here. What is found right is remembered as far as that saves time: a grammar's
process is kept, a prompt is encoded again.
"""

from __future__ import annotations

from common.jobs.job import GenerateParams
from common.jobs.preparation import grammar_key, is_long
from common.jobs.store import JobStore
from worker.engine.sequence import Sequence
from worker.jobs.active import ActiveJob
from worker.model.manager import ModelManager
from worker.model.protocols import LoadedModel


class Preparation:
    """Prepares one claimed generation. An unloaded model is loaded for it."""

    def __init__(self, store: JobStore, model_manager: ModelManager) -> None:
        self._store = store
        self._model_manager = model_manager

    def run(self, job: ActiveJob) -> None:
        """Prepare the job, and let it wait for its slot.

        Raises:
            SLMError: the job fails with it.
            GivenUp: the job was given up, or the model unloaded.
            Fenced: another attempt owns the job.
        """
        with self._model_manager.acquire(
            lambda: job.is_given_up, lambda: job.events.announce("Loading SLM model...")
        ) as handle:
            model = handle.model
        # No handle is held from here on: an unload does not wait for what may take seconds.
        params = GenerateParams.from_dict(job.job.params)
        if is_long(job.job.params):
            _check(job, params, model)
        if params.sampling.grammar is not None:
            model.grammars.prepare(params.sampling.grammar, lambda: job.is_given_up)
        self._store.advance(job.job, job.attempt, grammar_key(params.sampling.grammar))


def _check(job: ActiveJob, params: GenerateParams, model: LoadedModel) -> None:
    """Raises `SLMError` if the engine would not take the prompt."""
    engine = model.engine
    _, prompt_ids = model.renderer.render(params.prompt, lambda: job.is_given_up, engine.check_length)
    engine.check(Sequence(job.sequence_id, prompt_ids, params.sampling))
