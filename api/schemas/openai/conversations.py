"""Conversations and their items."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from api.schemas.openai.listing import Listing
from api.schemas.openai.responses import ItemStatus
from api.schemas.response_model import ResponseModel, UnixTime


class ConversationObject(ResponseModel):
    """A conversation; its items are listed by a route of their own."""

    id: str
    object: Literal["conversation"]
    created_at: UnixTime
    metadata: dict[str, str]


class DeletedConversation(ResponseModel):
    """The conversation was deleted."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: bool


class MessageItem(ResponseModel):
    """A message."""

    id: str
    type: Literal["message"]
    status: ItemStatus
    role: Literal["system", "user", "assistant"]
    content: Annotated[
        list[dict[str, Any]],
        Field(description="`output_text` of the assistant, else `input_text`; none yet if in progress"),
    ]


class CallItem(ResponseModel):
    """A call of a function."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: Annotated[str, Field(description="a JSON text")]


class CallOutputItem(ResponseModel):
    """The result of a call."""

    id: str
    type: Literal["function_call_output"]
    status: ItemStatus
    call_id: str
    output: str


Item = MessageItem | CallItem | CallOutputItem


class ShownItem(RootModel[Item]):
    """An item of a conversation."""


class ItemList(Listing):
    """A page of a conversation's items."""

    data: list[Item]
