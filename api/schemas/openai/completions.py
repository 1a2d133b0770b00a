"""Completions, whole and in chunks, with the fields that this server supports."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, RootModel

from api.schemas.errors import OpenAIError
from api.schemas.generated import TokenCounts
from api.schemas.openai.chat import ChatUsage, FinishReason, PromptLogprobs, TokenIds
from api.schemas.response_model import Count, ResponseModel, UnixTime


class CompletionLogprobs(ResponseModel):
    """The log probabilities of a text's tokens."""

    tokens: list[str]
    token_logprobs: Annotated[list[float | None], Field(description="null for the first token of an echoed prompt")]
    top_logprobs: list[dict[str, float] | None]
    text_offset: Annotated[list[Count], Field(description="the position of each token's first character")]


class CompletionChoice(ResponseModel):
    """One of the `n` answers to a prompt."""

    index: Count
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Annotated[FinishReason | None, Field(description="null until the choice has ended")]
    prompt_logprobs: NotRequired[PromptLogprobs]
    token_ids: NotRequired[TokenIds]
    prompt_token_ids: NotRequired[TokenIds]


class Completion(ResponseModel):
    """The complete answers, or a chunk of them."""

    id: Annotated[str, Field(description="`cmpl-` and the id of the first choice's job")]
    object: Literal["text_completion"]
    created: UnixTime
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[
        Annotated[
            ChatUsage | TokenCounts | None,
            Field(description="missing in the chunks of a stream, except with `include_usage`"),
        ]
    ]
    system_fingerprint: str


class CompletionFrame(RootModel[Completion | OpenAIError]):
    """The data of an event of a streamed completion; the last one's is `[DONE]`, unless there was an error."""
