"""Reads the messages of a conversation as those of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from api.openai.conversations.items import parts
from api.schemas.messages import CalledFunction
from common.conversations.conversation import Message
from common.jobs.prompts import Message as PromptMessage


def prompt_messages(messages: Sequence[Message]) -> list[PromptMessage]:
    """Return the messages of the prompt, without answers that have neither a text nor a call.

    Calls that follow each other belong to one message, with the text before them.
    """
    found: list[PromptMessage] = []
    for message in messages:
        if message.written.role == "assistant":
            _add_answer(found, message)
        else:
            found.append(_given(message))
    return found


def _given(message: Message) -> PromptMessage:
    written = message.written
    shared = {"role": written.role, "content": written.content}
    if written.role == "tool":
        return shared | {"tool_call_id": written.tool_call_id or ""}
    return shared | ({} if written.name is None else {"name": written.name})


def _add_answer(found: list[PromptMessage], message: Message) -> None:
    text, called = parts(message)
    calls = [CalledFunction(name=name, arguments=arguments).to_prompt(call_id) for call_id, name, arguments in called]
    if calls and not text and found and found[-1]["role"] == "assistant":
        found[-1]["tool_calls"] = [*found[-1].get("tool_calls", ()), *calls]
    elif text or calls:
        found.append({"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {}))
