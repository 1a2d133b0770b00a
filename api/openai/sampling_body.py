"""What the bodies of chat completions and completions have in common."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from pydantic import Field, model_validator

from api.schemas.generation import MAX_SEED, StopString
from api.schemas.job_options import Treatment
from api.schemas.strict import FIRST_ERROR, Strict, at_most
from common.errors import InvalidRequest
from common.sampling import SamplingParams

MAX_CHOICES = 128
MAX_NEW_TOKENS = 1_048_576  # the worker cuts it to what fits the context
MAX_LOGIT_BIASES = 1024
LEAST_TOP_P = 1e-9  # leaves the most probable token alone, which is what 0 means

TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]


class StreamOptions(Strict):
    """`stream_options`."""

    include_usage: bool = False


class SamplingBody(Treatment):
    """OpenAI's fields with OpenAI's defaults, vLLM's in addition, and this service's own (`Treatment`)."""

    model: str = Field(min_length=1, description="the name of a model that GET /v1/models lists")
    n: int = Field(1, ge=1, le=MAX_CHOICES, description=f"an integer from 1 to {MAX_CHOICES}")
    stream: bool = Field(False, description="true or false")
    stream_options: StreamOptions | None = Field(None, description='an object with "include_usage"')
    temperature: float = Field(1.0, ge=0, le=2, description="a number from 0 to 2")
    top_p: float = Field(1.0, ge=0, le=1, description="a number from 0 to 1")
    stop: StopString | Annotated[list[StopString], Field(max_length=8), FIRST_ERROR] = Field(
        default_factory=list, description="a non-empty string or a list of at most 8 of them"
    )
    seed: int | None = Field(None, ge=-MAX_SEED - 1, le=MAX_SEED, description="an integer of 64 bits")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    logit_bias: Annotated[dict[TokenKey, Bias], at_most(MAX_LOGIT_BIASES)] = Field(
        default_factory=dict,
        max_length=MAX_LOGIT_BIASES,
        description=f"an object of at most {MAX_LOGIT_BIASES} token ids, each with a number from -100 to 100",
    )
    user: str | None = Field(None, description="a string of the client's own; it changes nothing")
    top_k: int = Field(0, ge=-1, le=1_000_000, description="an integer from 0 to 1000000; 0 and -1 mean off")
    min_p: float = Field(0.0, ge=0, le=1, description="a number from 0 to 1")
    repetition_penalty: float = Field(1.0, ge=0.01, le=100, description="a number from 0.01 to 100")
    ignore_eos: bool = Field(False, description="true or false")
    min_tokens: int = Field(0, ge=0, le=MAX_NEW_TOKENS, description=f"an integer from 0 to {MAX_NEW_TOKENS}")
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64), FIRST_ERROR] = Field(
        default_factory=list, description="a list of at most 64 token ids"
    )

    @model_validator(mode="after")
    def _streams_where_it_has_options_for_it(self) -> SamplingBody:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options can only be used with stream: true", param="stream_options")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream tells at its end how many tokens it came to."""
        return self.stream_options is not None and self.stream_options.include_usage

    def drawn_seed(self) -> int:
        """The seed of the first choice; drawn where the client gave none, so that every attempt samples alike."""
        return secrets.randbelow(MAX_SEED) if self.seed is None else self.seed

    def sampling(self, seed: int, *, max_new_tokens: int, **more: Any) -> SamplingParams:
        """How to sample one choice; `more` are the fields that the endpoints have each for themselves."""
        return SamplingParams(
            seed=seed % (MAX_SEED + 1),
            max_new_tokens=max_new_tokens,
            min_new_tokens=self.min_tokens,
            temperature=self.temperature,
            top_p=max(self.top_p, LEAST_TOP_P),
            top_k=max(self.top_k, 0),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias={int(token): bias for token, bias in self.logit_bias.items()},
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
            stop_token_ids=tuple(self.stop_token_ids),
            ignore_eos=self.ignore_eos,
            **more,
        )
