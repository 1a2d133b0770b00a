"""What the Discord bot remembers of a channel, and what it deletes."""

from __future__ import annotations

from typing import Any

import pytest
from slm_bot.memory import answered, forgettable, newest
from slm_client import Conversation, Message


def conversation(*messages: tuple[str, str, str], leaf: str) -> Conversation:
    """A conversation of messages (id, parent, content); those with the ids a1, a2, … are answers, "…" in progress."""
    return Conversation("conv", "", "", None, {}, {}, leaf, [_message(*one) for one in messages])


def _message(message_id: str, parent_id: str, content: str) -> Message:
    is_answer, is_written = message_id.startswith("a"), content == "…"
    shared: dict[str, Any] = {"role": "assistant" if is_answer else "user", "content": "" if is_written else content}
    return Message(message_id, parent_id or None, status="in_progress" if is_written else "completed", **shared)


def ids(messages: list[Message]) -> list[str]:
    return [one.id for one in messages]


FIRST = (("q1", "", "12345"), ("a1", "q1", "12345"))


@pytest.mark.parametrize(
    ("more", "leaf", "expected"),
    [
        ([], "a1", ["q1", "a1"]),
        ([("q2", "a1", "x"), ("a2", "q2", "…")], "a2", ["q1", "a1"]),
        ([("q2", "a1", "x"), ("a2", "q2", "")], "a2", ["q1", "a1"]),
        ([("q2", "a1", "x"), ("a2", "q2", "y")], "a2", ["q1", "a1", "q2", "a2"]),
        ([("q2", "", "x"), ("a2", "q2", "…")], "a2", []),
    ],
    ids=["complete", "in_progress", "failed", "two", "first_in_progress"],
)
def test_a_question_follows_the_last_answer(more: list[tuple[str, str, str]], leaf: str, expected: list[str]) -> None:
    assert ids(answered(conversation(*FIRST, *more, leaf=leaf))) == expected


@pytest.mark.parametrize(
    ("most_chars", "expected"),
    [(0, []), (9, []), (10, ["q2", "a2"]), (19, ["q2", "a2"]), (20, ["q1", "a1", "q2", "a2"])],
)
def test_the_newest_exchanges_that_fit_are_kept(most_chars: int, expected: list[str]) -> None:
    messages = [_message(*one) for one in (*FIRST, ("q2", "a1", "12345"), ("a2", "q2", "12345"))]
    assert ids(newest(messages, most_chars)) == expected


def test_what_is_neither_kept_nor_being_answered_is_forgotten() -> None:
    found = conversation(*FIRST, ("q2", "a1", "x"), ("a2", "q2", "y"), ("q3", "a1", "x"), ("a3", "q3", "…"), leaf="a3")
    kept = [one for one in found.messages if one.id in ("q2", "a2")]
    assert ids(forgettable(found, kept)) == ["q1", "a1"]
