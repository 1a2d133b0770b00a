"""Shows the messages that a response was asked as items, in pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from flask import request

from api.openai.listing import listing, page_arguments
from api.openai.responses.output import part
from api.schemas.openai.responses import (
    FunctionCall,
    FunctionResult,
    GivenMessage,
    GivenText,
    InputItem,
    InputItemList,
    OutputMessage,
)
from api.schemas.shown import shown
from common import ids
from common.errors import InvalidRequest
from common.jobs.prompts import Message


def page(job_id: str, messages: Sequence[Message]) -> InputItemList:
    """Return the page that the query asks for, newest first unless it says otherwise.

    Raises:
        InvalidRequest: an argument is wrong or unknown.
    """
    after, limit = page_arguments(ids.RESPONSE_ITEM_ID, "order")
    order = request.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest(f"order must be asc or desc; got {shown(order)}", param="order")
    items = _items(job_id, messages)
    ordered = items if order == "asc" else items[::-1]
    begin = next((index + 1 for index, item in enumerate(ordered) if item["id"] == after), 0)
    return listing(InputItemList, ordered[begin : begin + limit], has_more=len(ordered) > begin + limit)


def _items(job_id: str, messages: Sequence[Message]) -> list[InputItem]:
    """Return the items, oldest first. Their ids depend on their positions only."""
    found = [item for message in messages for item in _of_message(message)]
    for index, item in enumerate(found):
        prefix = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}[item["type"]]
        item["id"] = f"{prefix}_{job_id}_{index}"
    return found


def _of_message(message: Message) -> Iterator[InputItem]:
    role, text = message["role"], message["content"]
    if role == "tool":
        yield FunctionResult(
            id="", type="function_call_output", status="completed", call_id=message["tool_call_id"], output=text
        )
    elif role != "assistant":
        content = [GivenText(type="input_text", text=text)]
        yield GivenMessage(id="", type="message", status="completed", role=role, content=content)
    else:
        calls = message.get("tool_calls", ())
        if text or not calls:
            yield OutputMessage(id="", type="message", status="completed", role=role, content=[part(text)])
        yield from map(_call, calls)


def _call(call: dict[str, Any]) -> FunctionCall:
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    return FunctionCall(
        id="",
        type="function_call",
        status="completed",
        call_id=call["id"],
        name=name,
        arguments=arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
    )
