"""Runs tokenize jobs: shows a prompt as the model sees it, token by token."""

from __future__ import annotations

from common.errors import PromptTooLong
from common.jobs.job import JobState, TokenizeResult, Wanted
from common.jobs.prompts import from_wire
from common.jobs.store import JobStore
from worker.jobs.acquire import AcquiredModel, acquire_text
from worker.jobs.active import ActiveJob
from worker.model.manager import ModelManager

CONTEXTS = 4  # maximum length of a text, in multiples of the model's context


class TokenJobs:
    """Runs one claimed tokenize job, with the tokenizer of its adapter. What is not loaded is loaded for it."""

    def __init__(self, store: JobStore, model_manager: ModelManager) -> None:
        self._store = store
        self._model_manager = model_manager

    def run(self, job: ActiveJob) -> None:
        """Run the job to its end.

        Raises:
            SLMError: the model cannot be loaded, or does not accept the prompt.
            GivenUp: the job was given up while it waited for the model.
            Fenced: another attempt owns the job.
        """
        with acquire_text(self._model_manager, job) as acquired:
            result = _tokenize(job, acquired)
        self._store.succeed(job.id, job.attempt, result.to_dict(), [job.events.finished(JobState.SUCCEEDED)])


def _tokenize(job: ActiveJob, acquired: AcquiredModel) -> TokenizeResult:
    renderer, model = acquired.adapter.renderer, acquired.model

    def check_length(num_tokens: int) -> None:
        limit = CONTEXTS * model.context
        if num_tokens > limit:
            raise PromptTooLong(
                f"The prompt has {num_tokens} tokens or more; the limit is {limit}, {CONTEXTS} times the model's "
                f"context of {model.context}.",
                param="prompt",
            )

    wants = job.job.params.get("wants", ())
    text, ids = renderer.render(from_wire(job.job.params), lambda: job.is_given_up, check_length)
    check_length(len(ids))
    return TokenizeResult(
        text=text,
        tokens=renderer.tokens(ids),
        ids=ids,
        context_length=model.context,
        names=renderer.names(ids) if Wanted.NAMES in wants else None,
        about=renderer.about() if Wanted.ABOUT in wants else None,
    )
