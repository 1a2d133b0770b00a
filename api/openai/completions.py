"""`POST /v1/completions`: continues texts without a template."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, model_validator

from api.jobs.choices import GeneratedChoice
from api.jobs.tool_reader import Content, Delta
from api.openai.endpoint import Endpoint
from api.openai.logprobs import ScoredTokens, cut_top, prompt_logprobs
from api.openai.sampling_body import LIMIT, MAX_CHOICES, NUM_LOGPROBS, NumLogprobs, SamplingBody, TokenId, limited
from api.openai.text_offsets import in_whole_text
from api.schemas.meaning import Meaning
from api.schemas.openai.chat import FinishReason
from api.schemas.openai.completions import CompletionChoice, CompletionLogprobs
from api.schemas.sampling import MAX_NEW_TOKENS
from api.schemas.strict import FIRST_ERROR
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.prompts import RawText, TokenIds

DEFAULT_MAX_TOKENS = 16

Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[TokenId], Field(min_length=1), FIRST_ERROR]


class CompletionBody(SamplingBody):
    """The body of a completion."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"max_tokens": {"not": {"const": 0}}}},
                {"properties": {"echo": {"const": True}}, "required": ["echo"]},
                {"properties": {"prompt_logprobs": {"type": "integer"}}, "required": ["prompt_logprobs"]},
            ]
        }
    )

    prompt: (
        Text
        | Tokens
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_CHOICES), FIRST_ERROR]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_CHOICES), FIRST_ERROR]
    ) = Field(description=f"a non-empty string, a list of token ids, or a list of at most {MAX_CHOICES} of either")
    max_tokens: int = Field(
        DEFAULT_MAX_TOKENS,
        ge=-1,
        le=MAX_NEW_TOKENS,
        description=f"{LIMIT}; with echo or prompt_logprobs also 0, to compute only the prompt",
    )
    suffix: Annotated[
        str | None,
        Meaning(
            "The text after the answer, which then fills in the middle. Only models with tokens for that can do so."
        ),
    ] = Field(None, description="a string")
    echo: Annotated[bool, Meaning("Whether the answer begins with the prompt's text.")] = Field(
        False, description="true or false"
    )
    logprobs: NumLogprobs | None = Field(None, description=NUM_LOGPROBS)

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
    def _has_something_to_compute(self) -> CompletionBody:
        if self.max_tokens == 0 and not self.echo and self.prompt_logprobs is None:
            raise InvalidRequest(f"max_tokens must be {LIMIT}; got 0", param="max_tokens")
        return self

    @model_validator(mode="after")
    def _token_ids_require_logprobs(self) -> CompletionBody:
        if self.logprob_token_ids and self.logprobs is None:
            raise InvalidRequest("logprob_token_ids can only be used with logprobs", param="logprob_token_ids")
        return self

    @model_validator(mode="after")
    def _can_score_the_echo(self) -> CompletionBody:
        if self.echo and self.logprobs is not None and self.stream:
            raise InvalidRequest("logprobs cannot be used with echo in a stream", param="logprobs")
        return self

    @model_validator(mode="after")
    def _can_fill_in_the_middle(self) -> CompletionBody:
        if self.suffix and self.echo:
            raise InvalidRequest("echo cannot be used together with suffix", param="echo")
        if self.suffix and not all(isinstance(prompt, RawText) for prompt in self.prompts):
            raise InvalidRequest("suffix cannot be used if the prompt is token ids", param="suffix")
        return self

    @model_validator(mode="after")
    def _can_echo(self) -> CompletionBody:
        """Reject token ids: a stream begins with the prompt's text, which only the worker could decode."""
        if self.echo and self.stream and not all(isinstance(prompt, RawText) for prompt in self.prompts):
            raise InvalidRequest("echo cannot be used in a stream if the prompt is token ids", param="echo")
        return self

    @property
    def num_prompt_logprobs(self) -> int | None:
        """How many alternatives the worker finds for each token of the prompt; None: no log probabilities."""
        wanted = [self.prompt_logprobs, self.logprobs if self.echo else None]
        return max((num for num in wanted if num is not None), default=None)

    @property
    def prompts(self) -> list[RawText | TokenIds]:
        """The prompts, one or several."""
        if isinstance(self.prompt, str):
            return [RawText(self.prompt, self.suffix or "")]
        ids = [one for one in self.prompt if isinstance(one, int)]
        return [TokenIds(tuple(ids))] if ids else [self._one(one) for one in self.prompt if not isinstance(one, int)]

    def _one(self, prompt: str | list[int]) -> RawText | TokenIds:
        return RawText(prompt, self.suffix or "") if isinstance(prompt, str) else TokenIds(tuple(prompt))


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
                body.choice_sampling(
                    seed + index,
                    max_new_tokens=limited(body.max_tokens),
                    logprobs=body.logprobs,
                    prompt_logprobs=body.num_prompt_logprobs,
                ),
                tells_prompt_ids=body.tells_prompt_ids,
                cut=body.cut,
            )
            for prompt in body.prompts
            for index in range(body.n)
        ]

    def choice(self, body: CompletionBody, index: int, choice: GeneratedChoice) -> CompletionChoice:
        """See `Endpoint.choice`."""
        text = choice.prompt_text * body.echo + choice.text
        written = _choice(index, text, choice.finish_reason)
        if choice.logprobs is not None or (body.logprobs is not None and body.max_tokens == 0):
            written["logprobs"] = _logprobs(body, choice, text)
        if body.prompt_logprobs is not None:
            written["prompt_logprobs"] = prompt_logprobs(choice.prompt_logprobs or [], body.prompt_logprobs)
        if body.return_token_ids:
            written["token_ids"] = choice.token_ids
            written["prompt_token_ids"] = choice.prompt_token_ids or []
        return written

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


def _logprobs(body: CompletionBody, choice: GeneratedChoice, text: str) -> CompletionLogprobs:
    """Return the log probabilities of the choice's text, which begins with the prompt if that is echoed."""
    echoed = (choice.prompt_logprobs or []) if body.echo else []
    wire = cut_top(echoed, body.logprobs or 0) + (choice.logprobs or [])
    scored = replace(in_whole_text(wire, text), as_ids=body.return_tokens_as_token_ids)
    return scored.for_completion(is_first_unknown=bool(echoed))


def _choice(
    index: int, text: str, finish_reason: FinishReason | None = None, scored: ScoredTokens | None = None
) -> CompletionChoice:
    written = None if scored is None else scored.for_completion()
    return {"index": index, "text": text, "logprobs": written, "finish_reason": finish_reason}


COMPLETIONS = Completions(CompletionBody)
