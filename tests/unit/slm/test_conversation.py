"""What a chat sends."""

from __future__ import annotations

from slm.conversation import HELP, Conversation


def spoken(conversation: Conversation, text: str) -> list[str]:
    return [f"{one['role']}: {one['content']}" for one in conversation.request(text)["messages"]]


def test_a_request_has_everything_that_was_said_and_the_options() -> None:
    conversation = Conversation({"model": "m", "seed": 1}, "Be brief.")
    conversation.note("Hi", " Hello!\n")
    assert spoken(conversation, "Bye") == ["system: Be brief.", "user: Hi", "assistant: Hello!", "user: Bye"]
    assert conversation.request("Bye").keys() == {"model", "seed", "messages"}


def test_a_question_without_an_answer_is_not_repeated() -> None:
    conversation = Conversation({}, None)
    conversation.note("Hi", " ")
    assert spoken(conversation, "Hi") == ["user: Hi"]


def test_reset_forgets_what_was_said_but_not_the_instruction() -> None:
    conversation = Conversation({}, "Be brief.")
    conversation.note("Hi", "Hello!")
    conversation.obey("/reset")
    assert spoken(conversation, "Bye") == ["system: Be brief.", "user: Bye"]


def test_the_instruction_can_be_changed_and_removed() -> None:
    conversation = Conversation({}, None)
    conversation.obey("/system Speak like a pirate.")
    assert spoken(conversation, "Hi") == ["system: Speak like a pirate.", "user: Hi"]
    conversation.obey("/system")
    assert spoken(conversation, "Hi") == ["user: Hi"]


def test_an_unknown_command_is_explained() -> None:
    assert Conversation({}, None).obey("/help") == HELP
    assert Conversation({}, None).obey("/fly away") == f"There is no command /fly. {HELP}"
