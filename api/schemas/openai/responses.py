"""Responses and the events of their streams, with the fields that this server supports."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, RootModel

from api.schemas.openai.chat import ChatToken
from api.schemas.openai.listing import Listing
from api.schemas.response_model import Count, ResponseModel, UnixTime

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ResponseEventType = Literal[
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
]
ItemEventType = Literal["response.output_item.added", "response.output_item.done"]
PartEventType = Literal[
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
]
ArgumentsEventType = Literal["response.function_call_arguments.delta", "response.function_call_arguments.done"]
Number = Annotated[int, Field(ge=0, description="dense from 0; a stream can be resumed after it")]


class OutputText(ResponseModel):
    """The answer's text."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]
    logprobs: list[ChatToken]


class OutputMessage(ResponseModel):
    """The assistant's message."""

    id: str
    type: Literal["message"]
    status: ItemStatus
    role: Literal["assistant"]
    content: list[OutputText]


class FunctionCall(ResponseModel):
    """A call of a function."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    arguments: Annotated[str, Field(description="a JSON text; incomplete if `status` is")]
    call_id: Annotated[str, Field(description="of the call's result, a `function_call_output`")]
    name: str


class ReasoningText(ResponseModel):
    """The text of reasoning."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(ResponseModel):
    """What the model has written before its answer."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[dict[str, Any]]
    content: list[ReasoningText]


OutputItem = ReasoningItem | OutputMessage | FunctionCall


class GivenText(ResponseModel):
    """A text of the input."""

    type: Literal["input_text"]
    text: str


class GivenMessage(ResponseModel):
    """A message of the input that is not the assistant's."""

    id: str
    type: Literal["message"]
    status: ItemStatus
    role: Literal["system", "user"]
    content: list[GivenText]


class FunctionResult(ResponseModel):
    """The result of a call."""

    id: str
    type: Literal["function_call_output"]
    status: ItemStatus
    call_id: str
    output: str


InputItem = GivenMessage | OutputMessage | FunctionCall | FunctionResult


class InputItemList(Listing):
    """A page of the input of a response, with the messages of those that it continues."""

    data: list[InputItem]


class DeletedResponse(ResponseModel):
    """The response was deleted."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputTokens(ResponseModel):
    """The number of tokens of a prompt."""

    object: Literal["response.input_tokens"]
    input_tokens: Count


class ResponseError(ResponseModel):
    """Why a response failed."""

    code: str
    message: str


class Incomplete(ResponseModel):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"]


class InputDetails(ResponseModel):
    """Details about the input tokens."""

    cached_tokens: Count
    cache_write_tokens: Count


class OutputDetails(ResponseModel):
    """Details about the output tokens."""

    reasoning_tokens: Count


class ResponseUsage(ResponseModel):
    """The numbers of input and output tokens."""

    input_tokens: Count
    input_tokens_details: InputDetails
    output_tokens: Count
    output_tokens_details: OutputDetails
    total_tokens: Count


class ResponseConversation(ResponseModel):
    """The conversation that a response belongs to."""

    id: str


class ResponseObject(ResponseModel):
    """A response and its progress."""

    id: Annotated[str, Field(description="`resp_` and the job's id")]
    object: Literal["response"]
    created_at: UnixTime
    status: ResponseStatus
    background: bool
    completed_at: UnixTime | None
    conversation: ResponseConversation | None
    error: ResponseError | None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: Annotated[bool, Field(description="false without tools")]
    previous_response_id: str | None
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Annotated[str | dict[str, Any], Field(description="as in the request; `none` without tools")]
    tools: list[dict[str, Any]]
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None


class ResponseEvent(ResponseModel):
    """The status of the response has changed."""

    type: ResponseEventType
    sequence_number: Number
    response: ResponseObject


class ItemEvent(ResponseModel):
    """A message or a call begins or ends."""

    type: ItemEventType
    sequence_number: Number
    output_index: Count
    item: OutputItem


class PartEvent(ResponseModel):
    """A part of a message or of reasoning begins, gets more text, or ends."""

    type: PartEventType
    sequence_number: Number
    item_id: str
    output_index: Count
    content_index: Count
    part: NotRequired[OutputText | ReasoningText]
    delta: NotRequired[Annotated[str, Field(description="the next piece")]]
    text: NotRequired[Annotated[str, Field(description="all of it")]]
    logprobs: NotRequired[list[ChatToken]]


class ArgumentsEvent(ResponseModel):
    """The arguments of a call get more text, or end."""

    type: ArgumentsEventType
    sequence_number: Number
    item_id: str
    output_index: Count
    delta: NotRequired[Annotated[str, Field(description="the next piece")]]
    name: NotRequired[str]
    arguments: NotRequired[Annotated[str, Field(description="all of them")]]


class FailureEvent(ResponseModel):
    """The stream has failed, but not the response: the client can resume after the last event."""

    type: Annotated[str, Field(description="`error`, or the kind of error")]
    message: str
    param: str | None
    code: str


ResponseStreamEvent = ResponseEvent | ItemEvent | PartEvent | ArgumentsEvent


class ResponseFrame(RootModel[ResponseStreamEvent | FailureEvent]):
    """The data of an event of a response's stream."""
