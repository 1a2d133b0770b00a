"""`POST /v1/completions`: continues texts without a template."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from api.jobs.choices import GeneratedChoice
from api.jobs.tool_reader import Content, Delta
from api.openai.endpoint import Endpoint
from api.openai.logprobs import ScoredTokens, TokenScale
from api.openai.sampling_body import LIMIT, MAX_CHOICES, NewTokens, SamplingBody, TokenId, limited
from api.schemas.meaning import Meaning
from api.schemas.openai.chat import FinishReason
from api.schemas.openai.completions import CompletionChoice
from api.schemas.strict import FIRST_ERROR
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.prompts import RawText, TokenIds
from common.jobs.sampling import MAX_LOGPROBS

DEFAULT_MAX_TOKENS = 16

Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[TokenId], Field(min_length=1), FIRST_ERROR]


class CompletionBody(SamplingBody):
    """The body of a completion."""

    prompt: (
        Text
        | Tokens
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_CHOICES), FIRST_ERROR]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_CHOICES), FIRST_ERROR]
    ) = Field(description=f"a non-empty string, a list of token ids, or a list of at most {MAX_CHOICES} of either")
    max_tokens: NewTokens = Field(DEFAULT_MAX_TOKENS, description=LIMIT)
    echo: Annotated[bool, Meaning("Whether the answer begins with the prompt's text.")] = Field(
        False, description="true or false"
    )
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS, description=f"an integer from 0 to {MAX_LOGPROBS}")

    @model_validator(mode="after")
    def _has_few_enough_choices(self) -> CompletionBody:
        if len(self.prompts) * self.n > MAX_CHOICES:
            raise InvalidRequest(
                f"n must be such that all prompts together get at most {MAX_CHOICES} choices; got {self.n} for "
                f"{len(self.prompts)} prompts",
                param="n",
            )
        return self

    @model_validator(mode="after")
    def _has_no_echo_with_logprobs(self) -> CompletionBody:
        if self.echo and self.logprobs is not None:
            raise InvalidRequest("logprobs cannot be used with echo: prompts have no logprobs", param="logprobs")
        return self

    @model_validator(mode="after")
    def _can_echo(self) -> CompletionBody:
        """Reject token ids: a stream begins with the prompt's text, which only the worker could decode."""
        if self.echo and self.stream and not all(isinstance(prompt, RawText) for prompt in self.prompts):
            raise InvalidRequest("echo cannot be used in a stream if the prompt is token ids", param="echo")
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
    """The completions endpoint."""

    path = "/v1/completions"
    id_prefix = "cmpl-"
    object_name = "text_completion"
    chunk_name = "text_completion"
    names: ClassVar = {}

    def params(self, body: CompletionBody) -> list[GenerateParams]:
        """See `Endpoint.params`."""
        seed = body.drawn_seed()
        return [
            GenerateParams(
                prompt,
                body.choice_sampling(seed + index, max_new_tokens=limited(body.max_tokens), logprobs=body.logprobs),
            )
            for prompt in body.prompts
            for index in range(body.n)
        ]

    def choice(self, body: CompletionBody, index: int, choice: GeneratedChoice) -> CompletionChoice:
        """See `Endpoint.choice`."""
        scored = None if choice.logprobs is None else TokenScale().take(choice.logprobs)
        return _choice(index, choice.prompt_text * body.echo + choice.text, choice.finish_reason, scored)

    def opening(self, body: CompletionBody, index: int) -> CompletionChoice | None:
        """Return the prompt if it is echoed."""
        prompt = body.prompts[index // body.n]
        return _choice(index, prompt.text) if body.echo and isinstance(prompt, RawText) else None

    def piece(self, body: CompletionBody, index: int, delta: Delta, scored: ScoredTokens | None) -> CompletionChoice:
        """See `Endpoint.piece`."""
        del body
        return _choice(index, delta.text if isinstance(delta, Content) else "", scored=scored)

    def closing(
        self, body: CompletionBody, index: int, finish_reason: FinishReason, *, has_calls: bool
    ) -> CompletionChoice:
        """See `Endpoint.closing`."""
        del body, has_calls
        return _choice(index, "", finish_reason)


def _choice(
    index: int, text: str, finish_reason: FinishReason | None = None, scored: ScoredTokens | None = None
) -> CompletionChoice:
    written = None if scored is None else scored.for_completion()
    return {"index": index, "text": text, "logprobs": written, "finish_reason": finish_reason}


COMPLETIONS = Completions(CompletionBody)
