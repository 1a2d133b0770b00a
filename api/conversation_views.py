"""Shows conversations and their messages."""

from __future__ import annotations

import json
from typing import Any, cast

from api.schemas.conversations import (
    VERSION,
    AnswerFailure,
    ConversationThread,
    ExportedConversation,
    ListedConversation,
    ShownConversation,
    ShownMessage,
    Status,
    TokenUsage,
)
from api.times import iso
from common.conversations.conversation import Answer, Conversation, Message, Thread
from common.conversations.search import Match
from common.errors import JobLost
from common.jobs.job import JobState

HEADINGS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


def conversation(one: Conversation) -> ShownConversation:
    """Show a conversation without its messages."""
    return ShownConversation(
        id=one.id,
        title=one.title,
        system_prompt=one.system_prompt,
        model=one.model or None,
        settings=one.settings,
        metadata=dict(one.metadata),
        leaf_id=one.leaf_id or None,
        created_at=iso(one.created_ms),
        updated_at=iso(one.updated_ms),
        num_messages=one.num_messages,
        bytes=one.bytes,
    )


def found(match: Match) -> ListedConversation:
    """Show a conversation that a search has found."""
    place = {"match": {"message_id": match.message_id, "excerpt": match.excerpt}}
    return cast(ListedConversation, {**conversation(match.conversation), **place})


def thread(one: Thread) -> ConversationThread:
    """Show a conversation with its messages."""
    shown: Any = {"success": True, **conversation(one.record), "messages": [message(each) for each in one.messages]}
    return cast(ConversationThread, shown)


def exported(one: Thread) -> ExportedConversation:
    """Show a conversation in the form that can be imported."""
    messages = [message(each) for each in one.messages]
    return cast(ExportedConversation, {"version": VERSION, **conversation(one.record), "messages": messages})


def markdown(one: Thread) -> str:
    """Write the messages that are shown as Markdown."""
    parts = [f"# {one.record.title or 'Conversation'}"]
    if one.record.system_prompt:
        parts += ["## System", one.record.system_prompt]
    for each in one.shown():
        shown = message(each)
        by = f" ({shown['model']})" if shown["model"] else ""
        parts += [f"## {HEADINGS[shown['role']]}{by}", shown["content"]]
        parts += [f"```json\n{json.dumps(call, indent=2, ensure_ascii=False)}\n```" for call in shown["tool_calls"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def message(one: Message) -> ShownMessage:
    """Show a message."""
    written, answer = one.written, one.answer or Answer("")
    return ShownMessage(
        id=one.id,
        parent_id=one.parent_id or None,
        role=written.role,
        content=one.text.strip() if one.answer is not None and not written.is_edited else one.text,
        name=written.name,
        tool_calls=list(written.tool_calls),
        tool_call_id=written.tool_call_id,
        tool_form=answer.tool_form,
        created_at=iso(one.created_ms),
        model=answer.model or written.model,
        job_id=answer.job_id or None,
        status=status(one),
        finish_reason=answer.finish_reason,
        error=_error(one),
        usage=_usage(one),
        rating=written.rating,
        is_edited=written.is_edited,
    )


def status(one: Message) -> Status:
    """Return whether a message is complete."""
    if one.answer is None or one.answer.state is JobState.SUCCEEDED:
        return "completed"
    return "in_progress" if one.answer.state is None and not one.is_lost else "incomplete"


def _error(one: Message) -> AnswerFailure | None:
    if one.is_lost:
        return AnswerFailure(code=JobLost.code, message="The server has lost the job that wrote this message.")
    if one.answer is None or one.answer.error is None:
        return None
    error = json.loads(one.answer.error)
    return AnswerFailure(code=error["code"], message=error["message"])


def _usage(one: Message) -> TokenUsage | None:
    answer, written = one.answer, one.written.usage
    if answer is not None and answer.prompt_tokens is not None and answer.completion_tokens is not None:
        return TokenUsage(prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens)
    return (
        None
        if written is None
        else TokenUsage(prompt_tokens=written["prompt_tokens"], completion_tokens=written["completion_tokens"])
    )
