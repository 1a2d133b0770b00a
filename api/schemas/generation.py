"""What a generation can be asked for.

Each field's `description` says what would be right, and is part of the message that refuses a wrong value.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from api.schemas.grammar import MAX_CHOICES, SCHEMA_BOUNDS, Choice, Regex, ResponseFormat, choice_grammar
from api.schemas.job_options import Body, Treatment
from api.schemas.strict import FIRST_ERROR, at_most
from common.errors import InvalidRequest
from common.jobs import GenerateParams
from common.sampling import MAX_GRAMMAR_CHARS, MAX_LOGPROBS, Grammar, GrammarKind, SamplingParams

MAX_SEED = 2**63 - 1
MAX_BIASES = 1024
MAX_STOP_TOKENS = 64

StopString = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0)]
TokenIdKey = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]  # JSON's objects have strings for keys
Bias = Annotated[float, Field(ge=-100, le=100)]


class GenerateBody(Body, Treatment):
    """Body of `POST /slm/generate` and `/slm/stream`."""

    prompt: str = Field(pattern=r"\S", description="a non-blank string of valid Unicode")
    max_new_tokens: int = Field(100, ge=1, le=1_048_576, description="an integer from 1 to 1048576")
    min_new_tokens: int = Field(0, ge=0, le=1_048_576, description="an integer from 0 to max_new_tokens")
    temperature: float = Field(0.7, ge=0, le=5, description="a number from 0 to 5")
    do_sample: bool = Field(True, description="true or false")
    top_p: float = Field(1.0, gt=0, le=1, description="a number above 0 and at most 1")
    top_k: int = Field(0, ge=0, le=1_000_000, description="an integer from 0 (off) to 1000000")
    min_p: float = Field(0.0, ge=0, le=1, description="a number from 0 (off) to 1")
    repetition_penalty: float = Field(1.0, ge=0.01, le=100, description="a number from 0.01 to 100")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    logit_bias: Annotated[dict[TokenIdKey, Bias], Field(max_length=MAX_BIASES), at_most(MAX_BIASES)] = Field(
        default_factory=dict,
        description=f"an object of at most {MAX_BIASES} token ids, each with a number from -100 to 100",
    )
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS, description=f"an integer from 0 to {MAX_LOGPROBS}")
    stop: StopString | Annotated[list[StopString], Field(max_length=8), FIRST_ERROR] = Field(
        default_factory=list, description="a non-empty string or a list of at most 8 of them"
    )
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOP_TOKENS), FIRST_ERROR] = Field(
        default_factory=list, description=f"a list of at most {MAX_STOP_TOKENS} token ids"
    )
    ignore_eos: bool = Field(False, description="true or false")
    response_format: ResponseFormat | None = Field(
        None,
        description='an object with the type "text", "json_object" or "json_schema", the last with a json_schema '
        f"that has a schema {SCHEMA_BOUNDS}",
    )
    regex: Regex | None = Field(
        None, description=f"a regular expression of 1 to {MAX_GRAMMAR_CHARS} characters of valid Unicode"
    )
    choice: Choice | None = Field(
        None,
        description=f"a list of 1 to {MAX_CHOICES} non-empty strings, {MAX_GRAMMAR_CHARS} characters of JSON at most",
    )
    seed: int = Field(
        default_factory=lambda: secrets.randbelow(MAX_SEED),  # drawn here, so that every attempt samples alike
        ge=0,
        le=MAX_SEED,
        description=f"an integer from 0 to {MAX_SEED}",
    )

    @field_validator("min_new_tokens")
    @classmethod
    def _fits_max_new_tokens(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("max_new_tokens", value):
            raise ValueError
        return value

    @model_validator(mode="after")
    def _has_one_form(self) -> GenerateBody:
        given = [name for name in ("response_format", "regex", "choice") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidRequest(f"{given[1]} must not be used together with {given[0]}", param=given[1])
        return self

    @property
    def grammar(self) -> Grammar | None:
        """What the answer must look like; None where anything goes."""
        if self.regex is not None:
            return Grammar(GrammarKind.REGEX, self.regex)
        if self.choice is not None:
            return choice_grammar(self.choice)
        return None if self.response_format is None else self.response_format.grammar

    def to_params(self) -> dict[str, Any]:
        """The prompt and how to sample: `GenerateParams`."""
        return GenerateParams(
            prompt=self.prompt,
            sampling=SamplingParams(
                seed=self.seed,
                max_new_tokens=self.max_new_tokens,
                min_new_tokens=self.min_new_tokens,
                temperature=self.temperature,
                do_sample=self.do_sample,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                logit_bias={int(token): bias for token, bias in self.logit_bias.items()},
                logprobs=self.logprobs,
                stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
                stop_token_ids=tuple(self.stop_token_ids),
                ignore_eos=self.ignore_eos,
                grammar=self.grammar,
            ),
        ).to_dict()
