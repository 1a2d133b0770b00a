"""Makes examples of feedback, as lines of a dataset."""

from __future__ import annotations

import json
from typing import Any

from common.jobs.prompts import Conversation, from_wire
from common.owners.feedback import Feedback

ROLES = frozenset({"system", "user", "assistant"})

Message = dict[str, Any]


def pair(one: Feedback) -> str | None:
    """Return the prompt with the correction, or with the answer if it was rated up.

    None: there is neither, or the prompt is no conversation, or a limit cut the answer off.
    """
    said, about = one.judgement, one.judged
    good = about.response if said.rating == "up" and about.is_complete else None
    answer, messages = said.correction or good, _messages(one)
    if not answer or not answer.strip() or messages is None:
        return None
    seen = [message | {"weight": 0} if message["role"] == "assistant" else message for message in messages]
    return _line(one, messages=[*seen, {"role": "assistant", "content": answer}])


def preference(one: Feedback) -> str | None:
    """Return the prompt with the correction as the better and the answer as the worse response.

    None: there is no correction or no other answer, or the prompt does not end with a user's message.
    """
    correction, response, messages = one.judgement.correction, one.judged.response, _messages(one)
    if not correction or not response.strip() or correction == response or not messages:
        return None
    if messages[-1]["role"] != "user":
        return None
    return _line(one, prompt=messages, chosen=correction, rejected=response)


def _messages(one: Feedback) -> list[Message] | None:
    match from_wire(one.judged.prompt):
        case Conversation(messages):
            known = [{"role": said["role"], "content": said["content"]} for said in messages if _is_plain(said)]
            return known if len(known) == len(messages) else None
        case str(instruction):
            return [{"role": "user", "content": instruction}]
    return None  # a raw text or tokens have no turns


def _is_plain(message: Message) -> bool:
    """Return whether a dataset can have the message: it neither calls a tool nor is a tool's result."""
    content = message.get("content")
    return message["role"] in ROLES and isinstance(content, str) and bool(content.strip()) and len(message) == 2


def _line(one: Feedback, **fields: Any) -> str:
    about = {"job_id": one.job_id, "model": one.judged.model, "tags": list(one.judgement.tags)}
    return json.dumps(fields | {"metadata": about}, ensure_ascii=False)
