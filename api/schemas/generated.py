"""The response of a generation."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Literal, NotRequired, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from api.schemas.response_model import Count, DescribedAs, JobId, Ms, ResponseModel
from common.jobs.sampling import ALWAYS_INCLUDED, SamplingParams

FIRST_SETTINGS = ("max_new_tokens", "temperature", "do_sample")  # in the order of the API's documentation

FinishReason = Literal["stop", "length", "cancelled"]


class TokenCounts(ResponseModel):
    """The numbers of tokens of prompt and answer."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class Timings(ResponseModel):
    """The durations of a job's phases; null for phases that have not ended."""

    queue_ms: Ms | None
    run_ms: Ms | None
    total_ms: Ms | None
    first_token_ms: Annotated[
        float | None, Field(description="milliseconds from the start of the run to the first token")
    ]


class Scored(ResponseModel):
    """A token and the natural logarithm of its probability, before all sampling settings."""

    token: Annotated[str, Field(description="as text; U+FFFD replaces a part of a character")]
    token_id: Count
    logprob: float
    bytes: NotRequired[Annotated[list[int], Field(description="present if the text does not represent all bytes")]]


class ScoredToken(Scored):
    """A token of the answer, and the most probable tokens at its position."""

    top: list[Scored]


class GrammarUsed(ResponseModel):
    """The form that the answer had to have."""

    kind: str
    source: str


def _settings_model() -> type[BaseModel]:
    """Return a model of `SamplingParams.to_dict` with the same fields."""
    types = get_type_hints(SamplingParams) | {"grammar": GrammarUsed}
    fields: dict[str, Any] = {}
    for name in dict.fromkeys((*FIRST_SETTINGS, *ALWAYS_INCLUDED, *types)):
        kind = _not_none(types[name])
        fields[name] = kind if name in ALWAYS_INCLUDED else (kind, getattr(SamplingParams(seed=0), name))
    return create_model(
        "SamplingUsed",
        __config__=ConfigDict(extra="forbid"),
        __doc__="The sampling settings of the answer; a missing setting had its default.",
        **fields,
    )


def _not_none(kind: Any) -> Any:
    others = [one for one in get_args(kind) if one is not NoneType]
    return others[0] if NoneType in get_args(kind) else kind


class PromptMessage(ResponseModel):
    """A message of a conversation."""

    role: str
    content: str
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]


PromptAsSent = str | list[PromptMessage] | list[int]


class ModelUsed(ResponseModel):
    """The model of a job; null if the job uses none, or was accepted before any model was known."""

    model: Annotated[str | None, Field(description="a version of an adapter such as `support@3`, or a base model")]
    base: Annotated[str | None, Field(description="the base model")]
    adapter_id: Annotated[str | None, Field(description="SHA-256 of the adapter's files; null for the bare base model")]


class Generated(ModelUsed):
    """A complete answer. For a cancelled generation the answer so far, with `success` false."""

    success: bool
    prompt: Annotated[PromptAsSent, Field(description="as the client sent it: text, messages or token ids")]
    response: str
    full_response: Annotated[str, Field(description="the prompt as the model saw it, followed by the answer")]
    device: str
    settings: Annotated[dict[str, Any], DescribedAs(_settings_model())]
    job_id: JobId
    finish_reason: FinishReason
    usage: TokenCounts
    timings: Timings
    logprobs: NotRequired[
        Annotated[
            list[ScoredToken],
            Field(description="one for each token of the answer, if they were requested"),
        ]
    ]
