"""Reads what a stored response was asked and has answered, as messages of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from api.jobs.choices import GeneratedChoice
from api.jobs.tool_reader import answer_reader, calls_in, content_of
from api.schemas.messages import CalledFunction
from common.errors import InvalidRequest, NotFound
from common.jobs import prompts
from common.jobs.events import Event
from common.jobs.job import JobRecord, JobState
from common.jobs.prompts import Conversation, Message


def said(record: JobRecord, log: Sequence[Event]) -> list[Message]:
    """Return the messages that the next response continues: the input and the answer of this one.

    Raises:
        InvalidRequest: it has no answer.
    """
    if record.state is not JobState.SUCCEEDED:
        raise InvalidRequest(
            f"previous_response_id must name a response with an answer; this one is {record.state.value}",
            param="previous_response_id",
        )
    return [*asked(record), _answer(record, log)]


def asked(record: JobRecord) -> tuple[Message, ...]:
    """Return the messages of the input, with those of the responses before it, and without the instructions.

    Raises:
        NotFound: the response ended without an answer, so its input was not kept.
    """
    if not prompts.is_in(record.params):
        raise NotFound(f"The response is {record.state.value}; its input was not kept.", param="response_id")
    prompt = prompts.from_wire(record.params)
    assert isinstance(prompt, Conversation)  # noqa: S101 - the only form of a response's prompt
    has_instructions = record.params["notes"]["response"]["instructions"] is not None
    return prompt.messages[1:] if has_instructions else prompt.messages


def _answer(record: JobRecord, log: Sequence[Event]) -> Message:
    choice = GeneratedChoice.of(record, log)
    reader = answer_reader(record.id, can_call="tools" in record.params["notes"]["response"])
    deltas = reader.read_whole(choice.text, choice.syntax)
    calls = [CalledFunction(name=one.name, arguments=one.arguments).to_prompt(one.id) for one in calls_in(deltas)]
    return {"role": "assistant", "content": content_of(deltas)} | ({"tool_calls": calls} if calls else {})
