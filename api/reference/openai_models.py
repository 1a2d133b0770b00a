"""What the routes under `/v1` answer, field by field: OpenAI's shapes, as far as this server fills them.

A field with a default can be missing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from api.reference.error_models import OpenAIError
from api.reference.slm_models import Absent, Count, TokenCounts, Told

UnixTime = Annotated[int, Field(description="seconds since the epoch")]
FinishReason = Literal["stop", "length"]


class ModelObject(Told):
    """What can be asked for by name: the base model, or the adapter on it with its `parent`."""

    id: str
    object: Literal["model"]
    created: UnixTime
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int | None = Field(description="most tokens of prompt and answer; null until it is loaded")


class ModelList(Told):
    """The models, the base first."""

    object: Literal["list"]
    data: list[ModelObject]


class ChatScored(Told):
    """A token and the natural logarithm of its probability, before all settings."""

    token: str = Field(description="as text; U+FFFD stands for a part of a character")
    logprob: float
    bytes: list[int]


class ChatToken(ChatScored):
    """A token of the answer, and the most probable ones in its place."""

    top_logprobs: list[ChatScored]


class ChatLogprobs(Told):
    """The tokens of a message, where they were asked for."""

    content: list[ChatToken]
    refusal: None


class CompletionLogprobs(Told):
    """The tokens of a text, where they were asked for."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[Count] = Field(description="where each begins, in characters")


class ChatMessage(Told):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Told):
    """One of the `n` answers."""

    index: Count
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Told):
    """A complete answer."""

    id: str = Field(description="`chatcmpl-` and the id of the first choice's job")
    object: Literal["chat.completion"]
    created: UnixTime
    model: str
    choices: list[ChatChoice]
    usage: TokenCounts
    system_fingerprint: str = Field(description="changes with what computes the answers")


class ChatDelta(Told):
    """What is new of a message."""

    role: Absent[Literal["assistant"]] = None
    content: Absent[str] = None


class ChatChunkChoice(Told):
    """What is new of one of the `n` answers."""

    index: Count
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Told):
    """A piece of the answers."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: UnixTime
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: TokenCounts | None = Field(None, description="with `include_usage`: null but in the last chunk")


class ChatFrame(RootModel[ChatChunk | OpenAIError]):
    """The data of an event of a streamed chat completion; the last one's is `[DONE]`, unless there was an error."""


class CompletionChoice(Told):
    """One of the `n` answers to a prompt."""

    index: Count
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None = Field(description="null until the choice has ended")


class Completion(Told):
    """The complete answers, or a piece of them."""

    id: str = Field(description="`cmpl-` and the id of the first choice's job")
    object: Literal["text_completion"]
    created: UnixTime
    model: str
    choices: list[CompletionChoice]
    usage: TokenCounts | None = Field(None, description="missing in the pieces, unless `include_usage` asks for it")
    system_fingerprint: str


class CompletionFrame(RootModel[Completion | OpenAIError]):
    """The data of an event of a streamed completion; the last one's is `[DONE]`, unless there was an error."""
