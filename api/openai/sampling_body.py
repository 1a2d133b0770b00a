"""The fields that the bodies of chat completions and completions share."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from api.schemas.answer_form import AnswerForm
from api.schemas.ignored import IgnoredFields
from api.schemas.job_options import RequestOptions
from api.schemas.meaning import Meaning
from api.schemas.sampling import MAX_BIASES, MAX_NEW_TOKENS, MAX_SEED, MAX_STOP_TOKENS, Bias, SamplingFields
from api.schemas.strict import FIRST_ERROR, Strict, at_most
from common.adapters.names import DEFAULT_ALIAS
from common.errors import InvalidRequest
from common.jobs.prompts import Cut
from common.jobs.sampling import ALL_TOKENS, MAX_LOGPROBS, SamplingParams

MAX_CHOICES = 128
MAX_SCORED_TOKENS = 1024
MAX_ALLOWED_TOKENS = 10_000
LEAST_TOP_P = 1e-9  # keeps only the most probable token, which is the meaning of 0

TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
# The server's settings can allow more than the documented maximum, see `SamplingBody.check_logprobs`.
NumLogprobs = Annotated[
    int,
    Field(ge=ALL_TOKENS, le=1_000_000),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_LOGPROBS}),
]
NUM_LOGPROBS = f"an integer from 0 to {MAX_LOGPROBS}, or to the server's SLM_MAX_LOGPROBS"


UNLIMITED = -1  # of the number of tokens
LIMIT = f"an integer from 1 to {MAX_NEW_TOKENS}, or -1 for no limit"


def _not_zero(limit: int) -> int:
    if limit == 0:
        raise ValueError(f"must be {LIMIT}; got 0")
    return limit


NewTokens = Annotated[
    int, Field(ge=-1, le=MAX_NEW_TOKENS, json_schema_extra={"not": {"const": 0}}), AfterValidator(_not_zero)
]


def limited(limit: int) -> int:
    """Return the maximum number of tokens for the worker."""
    return MAX_NEW_TOKENS if limit == UNLIMITED else limit


class StreamOptions(Strict):
    """`stream_options`."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class OpenAIBody(IgnoredFields):
    """The fields of all generation requests under `/v1`, with OpenAI's defaults."""

    model: Annotated[str, Meaning("The model to use; if it is missing, the alias `default`.")] = Field(
        DEFAULT_ALIAS, min_length=1, description="the name of a model that GET /v1/models lists"
    )
    temperature: float = Field(1.0, ge=0, le=2, description="a number from 0 to 2")
    top_p: float = Field(1.0, ge=0, le=1, description="a number from 0 to 1")
    stream: Annotated[bool, Meaning("Whether to stream the answer.")] = Field(False, description="true or false")

    @property
    def usable_top_p(self) -> float:
        """The value for the sampler."""
        return max(self.top_p, LEAST_TOP_P)


class OpenAISampling(OpenAIBody, SamplingFields):
    """The sampling fields of all generation requests under `/v1`, vLLM's included."""

    min_tokens: Annotated[
        int, Meaning("Minimum number of tokens before an end token, stop token or stop string ends the answer.")
    ] = Field(0, ge=0, le=MAX_NEW_TOKENS, description=f"an integer from 0 to {MAX_NEW_TOKENS}")
    seed: int | None = Field(None, ge=-MAX_SEED - 1, le=MAX_SEED, description="an integer of 64 bits")
    top_k: int = Field(0, ge=-1, le=1_000_000, description="an integer from 0 to 1000000; 0 and -1 mean off")
    logit_bias: Annotated[dict[TokenKey, Bias], Field(max_length=MAX_BIASES), at_most(MAX_BIASES)] = Field(
        default_factory=dict,
        description=f"an object of at most {MAX_BIASES} token ids, each with a number from -100 to 100",
    )
    stop: str | Annotated[list[str], Field(max_length=8), FIRST_ERROR] = Field(
        default_factory=list, description="a string or a list of at most 8 strings; an empty string has no effect"
    )
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOP_TOKENS), FIRST_ERROR] = Field(
        default_factory=list, description=f"a list of at most {MAX_STOP_TOKENS} token ids"
    )

    def drawn_seed(self) -> int:
        """Return the seed of the first choice; a random one if it is missing, so that all attempts sample the same."""
        return secrets.randbelow(MAX_SEED) if self.seed is None else self.seed

    def seeded_sampling(self, seed: int, **more: Any) -> SamplingParams:
        """Return the sampling parameters of one answer; `more` are the values that the body has in other fields."""
        ours = {
            "seed": seed % (MAX_SEED + 1),
            "min_new_tokens": self.min_tokens,
            "top_p": self.usable_top_p,
            "top_k": max(self.top_k, 0),
        }
        return self.sampling(**(ours | more))


class SamplingBody(OpenAISampling, AnswerForm, RequestOptions):
    """The fields of completions and chat completions: also the job options (`RequestOptions`)."""

    n: Annotated[int, Meaning("Number of answers to each prompt.")] = Field(
        1, ge=1, le=MAX_CHOICES, description=f"an integer from 1 to {MAX_CHOICES}"
    )
    stream_options: Annotated[
        StreamOptions | None,
        Meaning(
            "With `include_usage`, the last chunk has the numbers of tokens; and `continuous_usage_stats`: all do."
        ),
    ] = Field(None, description='an object with "include_usage" and "continuous_usage_stats"')
    prompt_logprobs: Annotated[
        NumLogprobs | None,
        Meaning("The number of alternatives for each token of the prompt, with log probabilities; as vLLM."),
    ] = Field(None, description=NUM_LOGPROBS)
    logprob_token_ids: Annotated[
        list[TokenId],
        Field(max_length=MAX_SCORED_TOKENS),
        FIRST_ERROR,
        Meaning("With `logprobs`, the alternatives are these tokens and the chosen one; as vLLM."),
    ] = Field(default_factory=list, description=f"a list of at most {MAX_SCORED_TOKENS} token ids")
    allowed_token_ids: Annotated[
        Annotated[list[TokenId], Field(min_length=1, max_length=MAX_ALLOWED_TOKENS), FIRST_ERROR] | None,
        Meaning("The only tokens that the answer may have; as vLLM. Not together with a form of the answer."),
    ] = Field(None, description=f"a list of 1 to {MAX_ALLOWED_TOKENS} token ids")
    truncate_prompt_tokens: Annotated[
        int | None, Meaning("Use only this many tokens of a longer prompt: its last ones, or see `truncation_side`.")
    ] = Field(None, ge=1, le=MAX_NEW_TOKENS, description=f"an integer from 1 to {MAX_NEW_TOKENS}")
    truncation_side: Annotated[
        Literal["left", "right"] | None, Meaning("The side of the prompt that `truncate_prompt_tokens` takes away.")
    ] = Field(None, description='"left" or "right"')
    return_token_ids: Annotated[
        bool, Meaning("Whether to return the token ids of prompt and answer; in a stream, those of the answer.")
    ] = Field(False, description="true or false")

    return_tokens_as_token_ids: Annotated[
        bool, Meaning("Whether `logprobs` has `token_id:` and the id in place of each token's text; as vLLM.")
    ] = Field(False, description="true or false")

    @model_validator(mode="after")
    def _allows_no_tokens_of_a_form(self) -> SamplingBody:
        if self.allowed_token_ids is not None and self.form is not None:
            raise InvalidRequest(
                "allowed_token_ids cannot be used together with a form of the answer", param="allowed_token_ids"
            )
        return self

    @model_validator(mode="after")
    def _prompt_logprobs_need_a_whole_answer(self) -> SamplingBody:
        if self.prompt_logprobs is not None and self.stream:
            raise InvalidRequest("prompt_logprobs cannot be used with stream: true", param="prompt_logprobs")
        return self

    @model_validator(mode="after")
    def _stream_options_require_stream(self) -> SamplingBody:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options can only be used with stream: true", param="stream_options")
        return self

    def check_logprobs(self, most: int) -> None:
        """Check the numbers of alternatives against the server's limit; -1: none. Raises `InvalidRequest`."""
        for name in ("logprobs", "top_logprobs", "prompt_logprobs"):
            wanted = getattr(self, name, None)
            if wanted is None or most == ALL_TOKENS or isinstance(wanted, bool):
                continue
            if not 0 <= wanted <= most:
                raise InvalidRequest(
                    f"{name} must be an integer from 0 to {most}, the limit of this server (SLM_MAX_LOGPROBS); "
                    f"got {wanted}",
                    param=name,
                )

    @property
    def cut(self) -> Cut | None:
        """How much of the prompt is used; None: all."""
        if self.truncate_prompt_tokens is None:
            return None
        return Cut(self.truncate_prompt_tokens, keeps_begin=self.truncation_side == "right")

    @property
    def include_usage(self) -> bool:
        """Whether the last chunk of a stream has the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def continuous_usage(self) -> bool:
        """Whether all chunks of a stream have the numbers of tokens so far."""
        return self.include_usage and self.stream_options is not None and self.stream_options.continuous_usage_stats

    @property
    def tells_prompt_ids(self) -> bool:
        """Whether the job must tell the tokens of its prompt."""
        return self.return_token_ids or self.continuous_usage

    def choice_sampling(self, seed: int, **more: Any) -> SamplingParams:
        """Return the sampling parameters of one choice; `more` are the values that differ between the endpoints."""
        ours = {
            "grammar": self.form,
            "prompt_logprobs": self.prompt_logprobs,
            "logprob_token_ids": tuple(self.logprob_token_ids),
            "allowed_token_ids": tuple(self.allowed_token_ids or ()),
        }
        return self.seeded_sampling(seed, **(ours | more))
