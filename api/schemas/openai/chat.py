"""Chat completions, whole and in chunks: OpenAI's shapes, as far as this server fills them."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, RootModel

from api.schemas.errors import OpenAIError
from api.schemas.generated import TokenCounts
from api.schemas.response_model import Count, ResponseModel, UnixTime

FinishReason = Literal["stop", "length"]


class ChatScored(ResponseModel):
    """A token and the natural logarithm of its probability, before all settings."""

    token: Annotated[str, Field(description="as text; U+FFFD stands for a part of a character")]
    logprob: float
    bytes: list[int]


class ChatToken(ChatScored):
    """A token of the answer, and the most probable ones in its place."""

    top_logprobs: list[ChatScored]


class ChatLogprobs(ResponseModel):
    """The tokens of a message, where they were asked for."""

    content: list[ChatToken]
    refusal: None


class ChatMessage(ResponseModel):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(ResponseModel):
    """One of the `n` answers."""

    index: Count
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(ResponseModel):
    """A complete answer."""

    id: Annotated[str, Field(description="`chatcmpl-` and the id of the first choice's job")]
    object: Literal["chat.completion"]
    created: UnixTime
    model: str
    choices: list[ChatChoice]
    usage: TokenCounts
    system_fingerprint: Annotated[str, Field(description="changes with what computes the answers")]


class ChatDelta(ResponseModel):
    """What is new of a message."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


class ChatChunkChoice(ResponseModel):
    """What is new of one of the `n` answers."""

    index: Count
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(ResponseModel):
    """A piece of the answers."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: UnixTime
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: NotRequired[
        Annotated[TokenCounts | None, Field(description="with `include_usage`: null but in the last chunk")]
    ]


class ChatFrame(RootModel[ChatChunk | OpenAIError]):
    """The data of an event of a streamed chat completion; the last one's is `[DONE]`, unless there was an error."""
