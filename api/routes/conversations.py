"""Routes for conversations that are kept on the server."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, jsonify, request

from api import conversation_views as views
from api.auth.access import Access, set_access
from api.current import begin_work, caller, services
from api.http.request_body import json_text
from api.jobs.request import idempotency_key
from api.schemas.conversations import (
    AboutConversation,
    ConversationBody,
    ConversationChange,
    ConversationDeleted,
    ConversationList,
    ImportBody,
    MessageBody,
    MessageChange,
    MessageFields,
    MessagesDeleted,
)
from api.schemas.json_object import json_object
from api.schemas.parsing import SLM_WITH_NULLS, B, parse
from api.schemas.query import natural, parse_search
from api.schemas.shown import shown
from common import ids
from common.conversations.conversation import Conversation, NewMessage, Thread, Written, answer_id
from common.conversations.search import search
from common.conversations.store import About, unknown_message
from common.errors import InvalidRequest, NotFound

NAMESPACE = uuid.UUID("0b1f3f0e-7b0c-4a57-9d3c-3a1f6f4f6a11")  # of ids that are made from an Idempotency-Key
DEFAULT_LIMIT, MAX_LIMIT = 20, 100

conversations = Blueprint("conversations", __name__, url_prefix="/slm/conversations")
set_access(conversations, Access.USER)


@conversations.post("")
def create() -> Response:
    """Create an empty conversation."""
    body, owner = _body(ConversationBody), caller().owner
    known = f"conv_{_uuid(owner)}"
    return _saved(services().conversations.create(owner, _about(body), conversation_id=known), 201)


@conversations.get("")
def list_conversations() -> Response:
    """List the caller's conversations, or search them."""
    begin_work()
    after, limit, text = _page()
    owner, store = caller().owner, services().conversations
    if text is not None:
        found = search(services().redis, owner, text, after=after, limit=limit)
        return _listed([views.found(one) for one in found.matches], found.last_id, has_more=found.has_more)
    page = store.newest(owner, after=after, limit=limit)
    last_id = page.items[-1].id if page.items else ""
    return _listed([views.conversation(one) for one in page.items], last_id, has_more=page.has_more)


@conversations.post("/import")
def import_conversation() -> Response:
    """Create a conversation from an exported one."""
    request.max_content_length = services().settings.max_file_bytes
    body = _body(ImportBody)
    new_ids: dict[str | None, str] = {one.id: _new_id() for one in body.messages}
    messages = [
        NewMessage(new_ids[one.id], _written(one), new_ids.get(one.parent_id, ""), created_ms=one.created_ms)
        for one in body.messages
    ]
    about = replace(_about(body), leaf_id=new_ids.get(body.leaf_id))
    return _saved(services().conversations.create(caller().owner, about, messages), 201)


@conversations.get("/<conversation_id>")
def show(conversation_id: str) -> Response:
    """Show a conversation with all of its messages."""
    begin_work()
    return jsonify(views.thread(_read(conversation_id)))


@conversations.patch("/<conversation_id>")
def change(conversation_id: str) -> Response:
    """Change a conversation, or choose the branch that it shows."""
    body = _body(ConversationChange)
    about = replace(_about(body), leaf_id=body.leaf_id)
    services().conversations.change(_find(conversation_id).id, about)
    return _saved(conversation_id)


@conversations.delete("/<conversation_id>")
def delete(conversation_id: str) -> Response:
    """Delete a conversation."""
    services().conversations.delete(_find(conversation_id).id)
    return jsonify(ConversationDeleted(success=True, id=conversation_id))


@conversations.post("/<conversation_id>/messages")
def append(conversation_id: str) -> Response:
    """Append a message."""
    body = _body(MessageBody)
    parent = (body.parent_id or "") if "parent_id" in body.model_fields_set else None
    message_id = answer_id(body.job_id or _uuid(conversation_id))
    new = NewMessage(message_id, _written(body), parent, body.job_id)
    services().conversations.append(_find(conversation_id).id, [new])
    return _message(conversation_id, message_id, 201)


@conversations.patch("/<conversation_id>/messages/<message_id>")
def change_message(conversation_id: str, message_id: str) -> Response:
    """Change a message's text or rating."""
    body = _body(MessageChange)
    changes: dict[str, Any] = {"rating": body.rating} if "rating" in body.model_fields_set else {}
    thread = _read(conversation_id)
    known = thread.find(message_id)
    if known is None:
        raise unknown_message(message_id)
    if body.content is not None:
        changes |= {"content": body.content, "is_edited": known.answer is not None}
    services().conversations.change_message(conversation_id, message_id, lambda old: replace(old, **changes))
    return _message(conversation_id, message_id)


@conversations.delete("/<conversation_id>/messages/<message_id>")
def delete_message(conversation_id: str, message_id: str) -> Response:
    """Delete a message, and all that follow it unless they are kept."""
    keeps = request.args.get("keep_replies", "false")
    if keeps not in ("true", "false"):
        raise InvalidRequest(f"keep_replies must be true or false; got {shown(keeps)}", param="keep_replies")
    store, found = services().conversations, _find(conversation_id)
    if not ids.has_form(message_id, ids.MESSAGE_ID):
        raise unknown_message(message_id)
    if not (deleted := store.cut(found.id, message_id, keeps_replies=keeps == "true")):
        raise unknown_message(message_id)
    leaf_id = store.find(conversation_id).leaf_id or None
    return jsonify(MessagesDeleted(success=True, id=message_id, deleted=deleted, leaf_id=leaf_id))


@conversations.get("/<conversation_id>/export")
def export(conversation_id: str) -> Response:
    """Export a conversation as JSON, which can be imported, or as Markdown, for people."""
    begin_work()
    wanted = request.args.get("format", "json")
    if wanted not in ("json", "markdown"):
        raise InvalidRequest(f"format must be json or markdown; got {shown(wanted)}", param="format")
    thread = _read(conversation_id)
    if wanted == "json":
        response, ending = jsonify(views.exported(thread)), "json"
    else:
        response, ending = Response(views.markdown(thread), mimetype="text/markdown"), "md"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", thread.record.title).strip("-.") or "conversation"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{ending}"'
    return response


def _body(schema: type[B]) -> B:
    return parse(schema, json_object(json_text() or b"{}"), SLM_WITH_NULLS)


def _new_id() -> str:
    return answer_id(str(uuid.uuid4()))


def _uuid(scope: str) -> str:
    """Return a new UUID; for the same Idempotency-Key in the same scope always the same."""
    key = idempotency_key()
    return str(uuid.uuid4() if key is None else uuid.uuid5(NAMESPACE, f"{scope}\n{key}"))


def _about(body: AboutConversation) -> About:
    settings = None if body.settings is None else body.settings.model_dump(exclude_unset=True)
    return About(body.title, body.system_prompt, body.model, settings, body.metadata)


def _written(body: MessageFields) -> Written:
    calls = [call.model_dump(exclude_none=True) for call in body.tool_calls]
    usage = None if body.usage is None else body.usage.model_dump()
    return Written(body.role, body.content, body.name, calls, body.tool_call_id, body.model, usage, body.rating)


def _find(conversation_id: str) -> Conversation:
    """Return a conversation that the caller may see. Raises `NotFound`."""
    found = services().conversations.find(conversation_id)
    if not caller().may_see(found.owner):
        raise _unknown(conversation_id)
    return found


def _read(conversation_id: str) -> Thread:
    """Return a conversation that the caller may see, with its messages. Raises `NotFound`."""
    found = services().conversations.read(conversation_id)
    if not caller().may_see(found.record.owner):
        raise _unknown(conversation_id)
    return found


def _unknown(conversation_id: str) -> NotFound:
    return NotFound(f"There is no conversation {conversation_id[:60]!r}.", param="conversation_id")


def _page() -> tuple[str | None, int, str | None]:
    """Return `after`, `limit` and `q` from the query. Raises `InvalidRequest`."""
    for name in request.args.keys() - {"after", "limit", "q"}:
        raise InvalidRequest(f"{shown(name)} is not a field; known: after, limit, q", param=name[:60])
    after = request.args.get("after")
    limit = natural(request.args.get("limit", str(DEFAULT_LIMIT)))
    if limit is None or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(
            f"limit must be an integer from 1 to {MAX_LIMIT}; got {shown(request.args['limit'])}", param="limit"
        )
    if after is not None and not ids.has_form(after, ids.CONVERSATION_ID):
        raise InvalidRequest(f"after must be the last_id of a page; got {shown(after)}", param="after")
    return after, limit, parse_search(request.args.get("q"))


def _listed(found: list[Any], last_id: str, *, has_more: bool) -> Response:
    page = ConversationList(success=True, conversations=found, last_id=last_id or None, has_more=has_more)
    return jsonify(page)


def _saved(conversation_id: str, status: int = 200) -> Response:
    return _success(views.conversation(services().conversations.find(conversation_id)), status)


def _message(conversation_id: str, message_id: str, status: int = 200) -> Response:
    found = services().conversations.read(conversation_id).find(message_id)
    if found is None:
        raise unknown_message(message_id)
    return _success(views.message(found), status)


def _success(body: Mapping[str, Any], status: int) -> Response:
    response = jsonify({"success": True, **body})
    response.status_code = status
    return response
