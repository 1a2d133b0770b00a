"""The body of a generation request under `/slm`.

Each field's `description` says which values are allowed, and is part of the error message for a wrong value.
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

from api.schemas.grammar import MAX_CHOICES, SCHEMA_BOUNDS, Choices, Regex, ResponseFormat, choice_grammar
from api.schemas.job_options import RequestOptions
from api.schemas.meaning import Meaning
from api.schemas.prompt_body import PromptBody
from api.schemas.sampling import MAX_NEW_TOKENS, MAX_SEED, SamplingFields
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.sampling import MAX_GRAMMAR_CHARS, MAX_LOGPROBS, Grammar, GrammarKind


class GenerateBody(SamplingFields, RequestOptions, PromptBody):
    """Body of `POST /slm/generate` and `/slm/stream`."""

    prompt: Annotated[str, Meaning("The instruction to answer, or the text to continue.")] = Field(
        pattern=r"\S", description="a non-blank string of valid Unicode"
    )
    max_new_tokens: Annotated[
        int, Meaning("Maximum number of tokens of the answer; the model's context also applies.")
    ] = Field(100, ge=1, le=MAX_NEW_TOKENS, description=f"an integer from 1 to {MAX_NEW_TOKENS}")
    min_new_tokens: Annotated[
        int, Meaning("Minimum number of tokens before an end token, stop token or stop string ends the answer.")
    ] = Field(0, ge=0, le=MAX_NEW_TOKENS, description="an integer from 0 to max_new_tokens")
    do_sample: Annotated[bool, Meaning("If false, the most probable token is always taken.")] = Field(
        True, description="true or false"
    )
    logprobs: Annotated[int | None, Meaning("Return each token's log probability, and this many alternatives.")] = (
        Field(None, ge=0, le=MAX_LOGPROBS, description=f"an integer from 0 to {MAX_LOGPROBS}")
    )
    response_format: Annotated[
        ResponseFormat | None, Meaning("The form that the answer must have, such as a JSON schema.")
    ] = Field(
        None,
        description='an object with the type "text", "json_object" or "json_schema", the last with a json_schema '
        f"that has a schema {SCHEMA_BOUNDS}",
    )
    regex: Annotated[Regex | None, Meaning("A regular expression that the whole answer matches.")] = Field(
        None, description=f"a regular expression of 1 to {MAX_GRAMMAR_CHARS} characters of valid Unicode"
    )
    choice: Annotated[Choices | None, Meaning("The allowed answers.")] = Field(
        None,
        description=f"a list of 1 to {MAX_CHOICES} non-empty strings, {MAX_GRAMMAR_CHARS} characters of JSON at most",
    )
    seed: Annotated[
        int,
        Meaning("The same seed and request give the same tokens, no matter what else runs. Random if it is missing."),
    ] = Field(
        default_factory=lambda: secrets.randbelow(MAX_SEED),  # drawn here, so that all attempts sample the same tokens
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
        """The form that the answer must have; None if any."""
        if self.regex is not None:
            return Grammar(GrammarKind.REGEX, self.regex)
        if self.choice is not None:
            return choice_grammar(self.choice)
        return None if self.response_format is None else self.response_format.grammar

    def to_params(self) -> dict[str, Any]:
        """Return the job's parameters, `GenerateParams` in JSON form."""
        sampling = self.sampling(
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            min_new_tokens=self.min_new_tokens,
            do_sample=self.do_sample,
            logprobs=self.logprobs,
            grammar=self.grammar,
        )
        return GenerateParams(self.prompt, sampling).to_dict()
