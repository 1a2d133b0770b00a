"""Runs the `embed` job of the current request."""

from __future__ import annotations

from dataclasses import replace

from api.current import caller, services
from api.jobs.request import job_options, keyed
from api.jobs.running import run_to_end
from api.schemas.job_options import RequestOptions
from api.schemas.strict import Strict
from api.service import NewJob
from common.embedding.task import KEPT_S, EmbedParams, EmbedResult
from common.errors import PromptTooLong
from common.jobs.job import JobKind, JobRecord
from common.jobs.store import JobOptions


def embedded(body: Strict, params: EmbedParams, model: str, options: RequestOptions) -> tuple[EmbedResult, JobRecord]:
    """Submit the job and wait for it; return its result and its record.

    Args:
        body: the body of the request, which an Idempotency-Key stands for.
        params: what to compute.
        model: the requested name; empty: the only model for embeddings.
        options: the options of the job.

    Raises:
        SLMError: the job cannot be accepted, or failed with this error.
    """
    check_lengths(params, services().settings.max_prompt_chars)
    wanted = keyed(job_options(options, services().embedding.name_of(model), is_async=False), body)
    record = run_to_end(NewJob(caller().owner, JobKind.EMBED, params.to_dict(), _brief(wanted)))
    return EmbedResult.from_dict(record.result or {}), record


def _brief(options: JobOptions) -> JobOptions:
    """Keep the vectors only for a short time if nobody can ask for them again."""
    is_awaited_once = options.idempotency_key is None and options.reader_grace_s is not None
    return replace(options, keep_s=KEPT_S) if is_awaited_once and options.webhook_url is None else options


def check_lengths(params: EmbedParams, most: int) -> None:
    """Check that no input has more than `most` characters or tokens. Raises `PromptTooLong`."""
    for index, one in enumerate(params.inputs):
        if len(one) > most:
            raise PromptTooLong(
                f"input[{index}] has {len(one)} characters; the limit is {most}.", param=f"input[{index}]"
            )
