"""Translates between the messages of a conversation and OpenAI's items."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, cast

from api.conversation_views import status
from api.jobs.tool_reader import answer_reader, calls_in, content_of
from api.openai.responses.input import GivenReasoning, InputItem, InputMessage
from api.openai.responses.tools import FunctionCallItem, FunctionCallOutput
from api.schemas.openai.conversations import CallItem, CallOutputItem, Item, MessageItem
from common import ids
from common.conversations.conversation import Message, NewMessage, Role, Thread, Written, answer_id
from common.jobs.events import PLAIN

ITEM_ID = f"(msg|fc|fco)_{ids.UUID}(_[0-9]{{1,3}})?"
_UUID = re.compile(ids.UUID)


def items_of(messages: Sequence[Message]) -> list[Item]:
    """Return the items of messages; an answer with calls of tools has several."""
    return [item for message in messages for item in _items(message)]


def message_of(thread: Thread, item_id: str) -> Message | None:
    """Return the message that an item is a part of; None if there is none."""
    found = _UUID.search(item_id) if ids.has_form(item_id, ITEM_ID) else None
    return None if found is None else thread.find(answer_id(found[0]))


def new_messages(given: Sequence[InputItem]) -> list[NewMessage]:
    """Return the messages to append for items of a request; reasoning is not kept."""
    kept = [item for item in given if not isinstance(item, GivenReasoning)]
    return [NewMessage(answer_id(str(uuid.uuid4())), _written(item)) for item in kept]


def _written(item: InputMessage | FunctionCallItem | FunctionCallOutput) -> Written:
    if isinstance(item, InputMessage):
        role = "system" if item.role == "developer" else item.role
        return Written(cast(Role, role), item.content, item.name)
    if isinstance(item, FunctionCallItem):
        function = {"name": item.name, "arguments": item.arguments}
        return Written("assistant", "", tool_calls=[{"id": item.call_id, "type": "function", "function": function}])
    return Written("tool", item.output, tool_call_id=item.call_id)


def _items(message: Message) -> Iterator[Item]:
    suffix = message.id.removeprefix("msg_")
    written, state = message.written, status(message)
    if written.role == "tool":
        yield CallOutputItem(
            id=f"fco_{suffix}",
            type="function_call_output",
            status=state,
            call_id=written.tool_call_id or "",
            output=written.content,
        )
        return
    text, calls = parts(message)
    if text or not calls:
        yield _message(message, text)
    for index, (call_id, name, arguments) in enumerate(calls):
        yield CallItem(
            id=f"fc_{suffix}_{index}",
            type="function_call",
            status=state,
            call_id=call_id,
            name=name,
            arguments=arguments,
        )


def parts(message: Message) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the text of a message and its calls of tools: id, name and arguments of each."""
    answer, written = message.answer, message.written
    if answer is None or written.is_edited or answer.syntax == PLAIN:
        text = message.text if answer is None else message.text.strip()
        functions = [(call["id"], call["function"]) for call in written.tool_calls]
        return text, [(call_id, one["name"], one["arguments"]) for call_id, one in functions]
    reader = answer_reader(answer.job_id, can_call=answer.tool_form is not None)
    deltas = reader.read_whole(answer.text, answer.syntax)
    return content_of(deltas).strip(), [(call.id, call.name, call.arguments) for call in calls_in(deltas)]


def _message(message: Message, text: str) -> MessageItem:
    role, state = message.written.role, status(message)
    part: dict[str, Any] = {"type": "input_text", "text": text}
    if role == "assistant":
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    content = [] if state == "in_progress" else [part]
    kind = cast(Any, role)
    return MessageItem(id=message.id, type="message", status=state, role=kind, content=content)
