"""Reads the results of a request's generations, one per choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from api.schemas.openai.chat import ChatUsage, CompletionDetails, FinishReason, PromptDetails
from common.errors import Cancelled
from common.jobs import events
from common.jobs.events import AnswerSyntax, Event
from common.jobs.job import GenerateResult, JobRecord, JobState


@dataclass(frozen=True, slots=True)
class GeneratedChoice:
    """One successful generation. `text` is the exact answer, and `prompt_text` the prompt as the model saw it.

    `syntax` says how its parts can be told apart.
    """

    job_id: str
    text: str
    prompt_text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int  # of the prompt
    stop_string: str | None  # which ended the answer
    logprobs: list[Any] | None  # `TokenLogprobs` in wire form, one for each token
    syntax: AnswerSyntax
    token_ids: list[int]
    prompt_logprobs: list[Any] | None = None  # in the same form; the first one's value means nothing
    prompt_token_ids: list[int] | None = None
    reasoning_tokens: int | None = None  # of the answer; None if its reasoning is not split off

    @classmethod
    def of(cls, record: JobRecord, log: Sequence[Event]) -> GeneratedChoice:
        """Read an ended job.

        Raises:
            SLMError: the job failed with this error.
            Cancelled: the job was cancelled, or has not ended because its client has disconnected.
        """
        if record.error is not None:
            raise record.error
        if record.state is not JobState.SUCCEEDED or record.result is None:
            raise Cancelled("The job was cancelled.")
        result = GenerateResult.from_dict(record.result)
        token_ids, text = events.committed(log)
        return cls(
            job_id=record.id,
            text=text,
            prompt_text=result.full_response.removesuffix(text),
            finish_reason=cast(FinishReason, result.finish_reason),
            prompt_tokens=result.prompt_tokens,
            completion_tokens=result.completion_tokens,
            cached_tokens=result.cached_tokens,
            stop_string=result.stop_string,
            logprobs=result.logprobs,
            syntax=events.answer_syntax(log),
            token_ids=token_ids,
            prompt_logprobs=result.prompt_logprobs,
            prompt_token_ids=events.prompt_ids(log),
            reasoning_tokens=result.reasoning_tokens,
        )


def usage(choices: Sequence[GeneratedChoice], per_prompt: int) -> ChatUsage:
    """Count the tokens of a request. A prompt counts once for its choices, which are adjacent."""
    prompt = sum(choice.prompt_tokens for choice in choices[::per_prompt])
    completion = sum(choice.completion_tokens for choice in choices)
    counted = ChatUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptDetails(cached_tokens=sum(one.cached_tokens for one in choices[::per_prompt])),
    )
    if reasoning := [one.reasoning_tokens for one in choices if one.reasoning_tokens is not None]:
        counted["completion_tokens_details"] = CompletionDetails(reasoning_tokens=sum(reasoning))
    return counted
