"""Completions, whole and in pieces: OpenAI's shapes, as far as this server fills them."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, RootModel

from api.schemas.errors import OpenAIError
from api.schemas.generated import TokenCounts
from api.schemas.openai.chat import FinishReason
from api.schemas.response_model import Count, ResponseModel, UnixTime


class CompletionLogprobs(ResponseModel):
    """The tokens of a text, where they were asked for."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: Annotated[list[Count], Field(description="where each begins, in characters")]


class CompletionChoice(ResponseModel):
    """One of the `n` answers to a prompt."""

    index: Count
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Annotated[FinishReason | None, Field(description="null until the choice has ended")]


class Completion(ResponseModel):
    """The complete answers, or a piece of them."""

    id: Annotated[str, Field(description="`cmpl-` and the id of the first choice's job")]
    object: Literal["text_completion"]
    created: UnixTime
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[
        Annotated[TokenCounts | None, Field(description="missing in the pieces, unless `include_usage` asks for it")]
    ]
    system_fingerprint: str


class CompletionFrame(RootModel[Completion | OpenAIError]):
    """The data of an event of a streamed completion; the last one's is `[DONE]`, unless there was an error."""
