"""The routes for conversations."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from api.auth.access import Access, set_access
from api.current import begin_work, caller, services
from api.http.request_body import json_text
from api.openai.conversations.items import ITEM_ID, items_of, message_of, new_messages
from api.openai.listing import listing, page_arguments
from api.openai.responses.input import InputItem
from api.schemas.json_object import json_object
from api.schemas.meaning import Meaning
from api.schemas.metadata import METADATA, Metadata
from api.schemas.openai.conversations import ConversationObject, DeletedConversation, Item, ItemList
from api.schemas.parsing import OPENAI, B, parse
from api.schemas.shown import shown
from api.schemas.strict import FIRST_ERROR, Strict
from common.conversations.conversation import Conversation, Thread
from common.conversations.store import About
from common.errors import InvalidRequest, NotFound

MAX_ITEMS = 20  # per request, as in OpenAI's API
ITEMS = f"a list of 1 to {MAX_ITEMS} messages, calls and results of calls"

openai_conversations = Blueprint("openai_conversations", __name__, url_prefix="/v1/conversations")
set_access(openai_conversations, Access.USER)

Items = Annotated[list[InputItem], FIRST_ERROR]


class OpenAIConversationBody(Strict):
    """Body of `POST /v1/conversations`."""

    items: Annotated[Items, Meaning("The first items.")] = Field(
        default_factory=list, max_length=MAX_ITEMS, description=ITEMS
    )
    metadata: Annotated[Metadata, Meaning("Stored with the conversation and returned with it.")] = Field(
        default_factory=dict, description=METADATA
    )


class OpenAIConversationChange(Strict):
    """Body of `POST /v1/conversations/<id>`."""

    metadata: Annotated[Metadata, Meaning("Replaces the stored one; null deletes it.")] = Field(
        default_factory=dict, description=METADATA
    )


class ItemsBody(Strict):
    """Body of `POST /v1/conversations/<id>/items`."""

    items: Annotated[Items, Meaning("The items to append.")] = Field(
        min_length=1, max_length=MAX_ITEMS, description=ITEMS
    )


@openai_conversations.post("")
def create() -> Response:
    """Create a conversation."""
    body = _body(OpenAIConversationBody)
    store = services().conversations
    created = store.create(caller().owner, About(metadata=body.metadata), new_messages(body.items))
    return jsonify(_object(store.find(created)))


@openai_conversations.get("/<conversation_id>")
def show(conversation_id: str) -> Response:
    """Show a conversation."""
    return jsonify(_object(_find(conversation_id)))


@openai_conversations.post("/<conversation_id>")
def update(conversation_id: str) -> Response:
    """Change a conversation."""
    body = _body(OpenAIConversationChange)
    services().conversations.change(_find(conversation_id).id, About(metadata=body.metadata))
    return jsonify(_object(_find(conversation_id)))


@openai_conversations.delete("/<conversation_id>")
def delete(conversation_id: str) -> Response:
    """Delete a conversation."""
    services().conversations.delete(_find(conversation_id).id)
    return jsonify(DeletedConversation(id=conversation_id, object="conversation.deleted", deleted=True))


@openai_conversations.post("/<conversation_id>/items")
def append(conversation_id: str) -> Response:
    """Append items to a conversation."""
    body = _body(ItemsBody)
    messages = new_messages(body.items)
    services().conversations.append(_find(conversation_id).id, messages)
    thread = _read(conversation_id)
    known = [thread.find(one.id) for one in messages]
    return _listed(items_of([one for one in known if one is not None]), has_more=False)


@openai_conversations.get("/<conversation_id>/items")
def list_items(conversation_id: str) -> Response:
    """List the items of a conversation, the newest first."""
    begin_work()
    after, limit = page_arguments(ITEM_ID, "order", "include", "include[]")
    order = request.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest(f"order must be asc or desc; got {shown(order)}", param="order")
    found = items_of(_read(conversation_id).shown())
    found = found if order == "asc" else found[::-1]
    begin = next((place for place, one in enumerate(found, 1) if one["id"] == after), 0)
    return _listed(found[begin : begin + limit], has_more=len(found) > begin + limit)


@openai_conversations.get("/<conversation_id>/items/<item_id>")
def show_item(conversation_id: str, item_id: str) -> Response:
    """Show an item."""
    begin_work()
    message = message_of(_read(conversation_id), item_id)
    found = [] if message is None else [one for one in items_of([message]) if one["id"] == item_id]
    if not found:
        raise _no_item(item_id)
    return jsonify(found[0])


@openai_conversations.delete("/<conversation_id>/items/<item_id>")
def delete_item(conversation_id: str, item_id: str) -> Response:
    """Delete an item; those after it are kept. The calls and the text of one answer are deleted together."""
    message = message_of(_read(conversation_id), item_id)
    if message is None:
        raise _no_item(item_id)
    services().conversations.cut(conversation_id, message.id, keeps_replies=True)
    return jsonify(_object(_find(conversation_id)))


def _body(schema: type[B]) -> B:
    return parse(schema, json_object(json_text() or b"{}"), OPENAI)


def _find(conversation_id: str) -> Conversation:
    """Return the caller's conversation. Raises `NotFound`."""
    return _own(services().conversations.find(conversation_id))


def _read(conversation_id: str) -> Thread:
    """Return the caller's conversation with its messages. Raises `NotFound`."""
    thread = services().conversations.read(conversation_id)
    _own(thread.record)
    return thread


def _own(record: Conversation) -> Conversation:
    if not caller().may_see(record.owner):
        raise NotFound(f"There is no conversation {record.id!r}.", param="conversation_id")
    return record


def _no_item(item_id: str) -> NotFound:
    return NotFound(f"There is no item {item_id[:60]!r}.", param="item_id")


def _object(one: Conversation) -> ConversationObject:
    return ConversationObject(
        id=one.id, object="conversation", created_at=one.created_ms // 1000, metadata=dict(one.metadata)
    )


def _listed(found: list[Item], *, has_more: bool) -> Response:
    return jsonify(listing(ItemList, found, has_more=has_more))
