"""What is done for a job before it takes a slot: its grammar is compiled, and a long prompt is encoded and measured.

What is wrong with them ends the job here. What is found right is remembered as far as that saves time: a grammar's
process is kept, a prompt is encoded again.
"""

from __future__ import annotations

from common.job_store import JobStore
from common.jobs import GenerateParams
from common.preparation import grammar_key, is_long
from worker.engine.sequence import Sequence
from worker.held_jobs import HeldJob
from worker.model_keeper import ModelKeeper
from worker.serving import Serving


class Preparation:
    """Prepares one claimed generation. An unloaded model is loaded for it."""

    def __init__(self, store: JobStore, keeper: ModelKeeper) -> None:
        self._store = store
        self._keeper = keeper

    def run(self, job: HeldJob) -> None:
        """Prepare the job, and let it wait for its slot.

        Raises:
            SLMError: the job fails with it.
            GivenUp: the job was given up, or the model unloaded.
            Fenced: another attempt owns the job.
        """
        with self._keeper.borrow(lambda: job.is_given_up, lambda: job.events.announce("Loading SLM model...")) as loan:
            serving = loan.serving
        # No loan is held from here on: an unload does not wait for what may take seconds.
        params = GenerateParams.from_dict(job.job.params)
        if is_long(job.job.params):
            _check(job, params, serving)
        if params.sampling.grammar is not None:
            serving.grammars.prepare(params.sampling.grammar, lambda: job.is_given_up)
        self._store.advance(job.job, job.attempt, grammar_key(params.sampling.grammar))


def _check(job: HeldJob, params: GenerateParams, serving: Serving) -> None:
    """Raises `SLMError` if the engine would not take the prompt."""
    engine = serving.engine
    _, prompt_ids = serving.renderer.render(params.prompt, lambda: job.is_given_up, engine.check_length)
    engine.check(Sequence(job.sequence_id, prompt_ids, params.sampling))
