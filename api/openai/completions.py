"""`POST /v1/completions`: texts go on as they stand, without a template."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from api.openai.choices import GeneratedChoice
from api.openai.endpoint import Endpoint
from api.openai.logprobs import ScoredTokens, TokenScale
from api.openai.sampling_body import MAX_CHOICES, SamplingBody, TokenId
from api.schemas.meaning import Meaning
from api.schemas.openai.chat import FinishReason
from api.schemas.openai.completions import CompletionChoice
from api.schemas.sampling import MAX_NEW_TOKENS
from api.schemas.strict import FIRST_ERROR
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.prompts import RawText, TokenIds
from common.jobs.sampling import MAX_LOGPROBS

DEFAULT_MAX_TOKENS = 16

Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[TokenId], Field(min_length=1), FIRST_ERROR]


class CompletionBody(SamplingBody):
    """The body."""

    prompt: (
        Text
        | Tokens
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_CHOICES), FIRST_ERROR]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_CHOICES), FIRST_ERROR]
    ) = Field(description=f"a non-empty string, a list of token ids, or a list of at most {MAX_CHOICES} of either")
    max_tokens: int = Field(
        DEFAULT_MAX_TOKENS, ge=1, le=MAX_NEW_TOKENS, description=f"an integer from 1 to {MAX_NEW_TOKENS}"
    )
    echo: Annotated[bool, Meaning("Whether the prompt's text stands before the answer.")] = Field(
        False, description="true or false"
    )
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS, description=f"an integer from 0 to {MAX_LOGPROBS}")

    @model_validator(mode="after")
    def _is_not_too_much_at_once(self) -> CompletionBody:
        if len(self.prompts) * self.n > MAX_CHOICES:
            raise InvalidRequest(
                f"n must be such that all prompts together get at most {MAX_CHOICES} choices; got {self.n} for "
                f"{len(self.prompts)} prompts",
                param="n",
            )
        return self

    @model_validator(mode="after")
    def _echoes_no_log_probabilities(self) -> CompletionBody:
        if self.echo and self.logprobs is not None:
            raise InvalidRequest("logprobs cannot be used with echo: a prompt has none here", param="logprobs")
        return self

    @model_validator(mode="after")
    def _knows_what_to_echo(self) -> CompletionBody:
        """A stream begins with the prompt's text, which only the worker could make out of token ids."""
        if self.echo and self.stream and not all(isinstance(prompt, RawText) for prompt in self.prompts):
            raise InvalidRequest("echo cannot be used in a stream whose prompt is token ids", param="echo")
        return self

    @property
    def prompts(self) -> list[RawText | TokenIds]:
        """The prompts, one or several."""
        if isinstance(self.prompt, str):
            return [RawText(self.prompt)]
        ids = [one for one in self.prompt if isinstance(one, int)]
        return [TokenIds(tuple(ids))] if ids else [_prompt(one) for one in self.prompt if not isinstance(one, int)]


def _prompt(one: str | list[int]) -> RawText | TokenIds:
    return RawText(one) if isinstance(one, str) else TokenIds(tuple(one))


class Completions(Endpoint[CompletionBody]):
    """Texts in, texts out."""

    path = "/v1/completions"
    id_prefix = "cmpl-"
    object_name = "text_completion"
    chunk_name = "text_completion"
    names: ClassVar = {}

    def params(self, body: CompletionBody) -> list[GenerateParams]:
        """As `Endpoint.params`."""
        seed = body.drawn_seed()
        return [
            GenerateParams(
                prompt, body.choice_sampling(seed + index, max_new_tokens=body.max_tokens, logprobs=body.logprobs)
            )
            for prompt in body.prompts
            for index in range(body.n)
        ]

    def choice(self, body: CompletionBody, index: int, choice: GeneratedChoice) -> CompletionChoice:
        """As `Endpoint.choice`."""
        scored = None if choice.logprobs is None else TokenScale().take(choice.logprobs)
        return _choice(index, choice.prompt_text * body.echo + choice.text, choice.finish_reason, scored)

    def opening(self, body: CompletionBody, index: int) -> CompletionChoice | None:
        """The prompt, where it is to be echoed."""
        prompt = body.prompts[index // body.n]
        return _choice(index, prompt.text) if body.echo and isinstance(prompt, RawText) else None

    def piece(self, index: int, text: str, scored: ScoredTokens | None) -> CompletionChoice:
        """As `Endpoint.piece`."""
        return _choice(index, text, scored=scored)

    def closing(self, index: int, finish_reason: FinishReason) -> CompletionChoice:
        """As `Endpoint.closing`."""
        return _choice(index, "", finish_reason)


def _choice(
    index: int, text: str, finish_reason: FinishReason | None = None, scored: ScoredTokens | None = None
) -> CompletionChoice:
    told = None if scored is None else scored.for_completion()
    return {"index": index, "text": text, "logprobs": told, "finish_reason": finish_reason}


COMPLETIONS = Completions(CompletionBody)
