"""What a tokenize job does: show what the model sees of a prompt, token by token."""

from __future__ import annotations

from common.errors import PromptTooLong
from common.job_store import JobStore
from common.jobs import JobState, TokenizeResult
from common.prompts import from_wire
from worker.held_jobs import HeldJob
from worker.model_keeper import ModelKeeper
from worker.serving import Serving

CONTEXTS = 4  # of the model: so much longer than what it could take a text may be


class TokenJobs:
    """Runs one claimed tokenize job, with the tokenizer of the model. An unloaded model is loaded for it."""

    def __init__(self, store: JobStore, keeper: ModelKeeper) -> None:
        self._store = store
        self._keeper = keeper

    def run(self, job: HeldJob) -> None:
        """Run the job to its end.

        Raises:
            SLMError: the model cannot be loaded, or cannot take such a prompt.
            GivenUp: the job was given up while it waited for the model.
            Fenced: another attempt owns the job.
        """
        with self._keeper.borrow(lambda: job.is_given_up, lambda: job.events.announce("Loading SLM model...")) as loan:
            serving = loan.serving
        # No loan is held from here on: an unload does not wait for what may take seconds.
        result = _tokenize(job, serving)
        self._store.succeed(job.id, job.attempt, result.to_dict(), [job.events.finished(JobState.SUCCEEDED)])


def _tokenize(job: HeldJob, serving: Serving) -> TokenizeResult:
    renderer = serving.renderer

    def check_length(num_tokens: int) -> None:
        most = CONTEXTS * serving.context
        if num_tokens > most:
            raise PromptTooLong(
                f"The prompt has {num_tokens} tokens or more; at most {most} are shown, {CONTEXTS} times the model's "
                f"context of {serving.context}.",
                param="prompt",
            )

    text, ids = renderer.render(from_wire(job.job.params), lambda: job.is_given_up, check_length)
    check_length(len(ids))
    return TokenizeResult(text=text, tokens=renderer.tokens(ids), ids=ids, context_length=serving.context)
