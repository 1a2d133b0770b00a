"""The bodies of responses under `/v1/messages`, and the events of their streams."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, RootModel

from api.schemas.response_model import Count, ResponseModel

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class ErrorDetails(ResponseModel):
    """What a client can do without."""

    error_code: Literal["thread_unsupported_request"]
    unsupported: list[str]


class AnthropicErrorBody(ResponseModel):
    """The error."""

    type: str
    message: str
    details: NotRequired[Annotated[ErrorDetails, Field(description="if a client asked for a thread")]]


class AnthropicError(ResponseModel):
    """The body of every error response under `/v1/messages`, and the data of an `error` event."""

    type: Literal["error"]
    error: AnthropicErrorBody
    request_id: NotRequired[str]


class AnthropicText(ResponseModel):
    """The answer's text."""

    type: Literal["text"]
    text: str


class AnthropicThinking(ResponseModel):
    """The reasoning before the answer, if the request asked for it."""

    type: Literal["thinking"]
    thinking: str
    signature: Annotated[str, Field(description="empty: reasoning that is sent back is not checked")]


class AnthropicToolUse(ResponseModel):
    """A call of a tool."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Annotated[
        dict[str, Any], Field(description="empty if the answer ends inside the call; in a stream its deltas have it")
    ]


AnthropicBlock = AnthropicThinking | AnthropicText | AnthropicToolUse


class AnthropicUsage(ResponseModel):
    """The numbers of tokens. At the beginning of a stream they are 0; its `message_delta` has them."""

    input_tokens: Annotated[Count, Field(description="of the prompt, without those read from the cache")]
    cache_creation_input_tokens: Annotated[Count, Field(description="0: writing to the cache is not counted")]
    cache_read_input_tokens: Annotated[Count, Field(description="of the prompt, known from earlier prompts")]
    output_tokens: Count


class AnthropicAnswer(ResponseModel):
    """The assistant's message."""

    id: Annotated[str, Field(description="`msg_` and the job's id")]
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnthropicBlock]
    stop_reason: StopReason | None
    stop_sequence: Annotated[str | None, Field(description="the one that ended the answer")]
    usage: AnthropicUsage


class TokenCount(ResponseModel):
    """The number of tokens of a prompt."""

    input_tokens: Count


class MessageStart(ResponseModel):
    """The message begins."""

    type: Literal["message_start"]
    message: AnthropicAnswer


class BlockStart(ResponseModel):
    """A block of the message begins."""

    type: Literal["content_block_start"]
    index: Count
    content_block: AnthropicBlock


class ThinkingDelta(ResponseModel):
    """A piece of the reasoning."""

    type: Literal["thinking_delta"]
    thinking: str


class TextDelta(ResponseModel):
    """A piece of text."""

    type: Literal["text_delta"]
    text: str


class InputDelta(ResponseModel):
    """A piece of a call's input."""

    type: Literal["input_json_delta"]
    partial_json: Annotated[str, Field(description="all pieces together are the JSON text")]


class BlockDelta(ResponseModel):
    """The next piece of a block."""

    type: Literal["content_block_delta"]
    index: Count
    delta: ThinkingDelta | TextDelta | InputDelta


class BlockStop(ResponseModel):
    """A block has ended."""

    type: Literal["content_block_stop"]
    index: Count


class MessageEnd(ResponseModel):
    """Why the message has ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(ResponseModel):
    """The message has ended."""

    type: Literal["message_delta"]
    delta: MessageEnd
    usage: AnthropicUsage


class Bare(ResponseModel):
    """The stream is alive, or has ended."""

    type: Literal["ping", "message_stop"]


StreamEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | Bare | AnthropicError


class AnthropicFrame(RootModel[StreamEvent]):
    """The data of an event of a streamed message."""
