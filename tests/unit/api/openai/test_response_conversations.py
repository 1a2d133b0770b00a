"""Responses that continue a conversation: its messages come first, and the input and the answer are added to it."""

from __future__ import annotations

import threading
from typing import Any

from common.jobs.prompts import Conversation
from tests.api_in_process import Api
from tests.scripted_worker import TIMEOUT_S, Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import Seen
from tests.unit.api.openai.test_conversations import CALL, HI, OUTPUT, created, items, texts
from tests.unit.api.openai.test_responses import respond

STORY = "ok"
ANSWER = {"role": "assistant", "content": STORY}


def test_a_conversation_grows_by_each_input_and_its_answer(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    conversation = created(api)
    first = respond(api, conversation=conversation, instructions="Be brief").json
    second = respond(api, input=[HI | {"content": "Well?"}], conversation={"id": conversation}).json
    assert first["conversation"] == second["conversation"] == {"id": conversation}
    assert texts(items(api, conversation)) == ["Hi", STORY, "Well?", STORY]
    assert seen.params[1].prompt == Conversation((HI, ANSWER, HI | {"content": "Well?"}))


def test_calls_and_their_results_in_a_conversation_are_a_part_of_the_prompt(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    respond(api, input=[HI], conversation=(conversation := created(api, HI, CALL, CALL | {"call_id": "c2"}, OUTPUT)))
    assert len(items(api, conversation)) == 6
    function = {"name": "weather", "arguments": {"city": "Paris"}}
    calls = [{"id": call_id, "type": "function", "function": function} for call_id in ("c1", "c2")]
    prompt = seen.params[0].prompt
    assert isinstance(prompt, Conversation)
    assert prompt.messages == (
        HI,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "Sunny", "tool_call_id": "c1"},
        HI,
    )


def test_a_response_can_continue_after_an_earlier_message(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    conversation = created(api, HI, HI | {"content": "Bye"})
    first = items(api, conversation)[0]["id"]
    respond(api, input="Hey", conversation={"id": conversation, "parent_id": first})
    assert texts(items(api, conversation)) == ["Hi", "Hey", STORY]
    assert seen.params[0].prompt == Conversation((HI, HI | {"content": "Hey"}))


def test_a_repeated_request_adds_nothing(start_api: StartApi) -> None:
    release = threading.Event()

    def script(play: Play) -> None:
        assert release.wait(TIMEOUT_S)
        play.end(STORY)

    api = start_api(script)
    conversation = created(api)

    def ask(key: str) -> Any:
        body = {"input": "Hi", "conversation": conversation, "background": True}
        return api.client.post("/v1/responses", json=body, headers={"Idempotency-Key": key})

    assert ask("a").json["id"] == ask("a").json["id"]
    refused = ask("b")
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "conflict")
    release.set()
    assert [one["role"] for one in items(api, conversation)] == ["user", "assistant"]


def test_the_tokens_of_a_conversation_count(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    conversation = created(api, HI)
    path = "/v1/responses/input_tokens"
    alone = api.client.post(path, json={"input": "Hi"}).json["input_tokens"]
    assert api.client.post(path, json={"input": "Hi", "conversation": conversation}).json["input_tokens"] > alone
    assert texts(items(api, conversation)) == ["Hi"]


def test_a_conversation_and_a_previous_response_exclude_each_other(shared_api: Api) -> None:
    refused = respond(shared_api, conversation=created(shared_api), previous_response_id="resp_1")
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "conversation")
