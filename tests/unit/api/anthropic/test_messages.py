"""Anthropic's API: what reaches the worker, and the answers, whole and as events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common.errors import InvalidRequest
from common.jobs.prompts import Conversation, Ending
from common.jobs.sampling import Grammar, GrammarKind
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import MESSAGES, Seen, frames_of

Json = dict[str, Any]
USER = {"role": "user", "content": "Hi"}
OFF = {"enable_thinking": False, "thinking": False}  # as long as the client does not ask for it


def create(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/v1/messages", json={"model": MODEL, "messages": MESSAGES, "max_tokens": 9} | body)


def events_of(stream: TestResponse) -> list[Json]:
    found = []
    for frame in frames_of(stream):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_a_message(api: Api) -> None:
    answer = create(api)
    assert answer.json["content"] == [{"type": "text", "text": "Once upon a time."}]
    assert (answer.json["role"], answer.json["stop_reason"], answer.json["stop_sequence"]) == (
        "assistant",
        "end_turn",
        None,
    )
    assert answer.json["usage"]["output_tokens"] == 3
    assert answer.json["id"] == f"msg_{answer.headers['X-Job-Id']}"


def test_a_stream_begins_with_the_number_of_the_prompts_tokens(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.status("Model loaded")
        play.status("Generating response...", prompt_ids=[5, 6, 7])
        play.end("ok", cached_tokens=2)

    first, *_, last, _ = events_of(create(start_api(script), stream=True))
    assert (first["type"], first["message"]["usage"]["input_tokens"]) == ("message_start", 3)
    assert last["usage"]["cache_read_input_tokens"] == 2


def test_its_events(api: Api) -> None:
    events = events_of(create(api, stream=True))
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(deltas) == "Once upon a time."
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ({"finish_reason": "length"}, ("max_tokens", None)),
        ({"stop_string": "x"}, ("stop_sequence", "x")),
        ({}, ("end_turn", None)),
    ],
)
def test_the_stop_reasons(start_api: StartApi, end: Json, expected: tuple[str, str | None]) -> None:
    api = start_api(lambda play: play.end("ok", **end))
    whole = create(api, stop_sequences=["x"]).json
    *_, delta, _ = events_of(create(api, stop_sequences=["x"], stream=True))
    assert (whole["stop_reason"], whole["stop_sequence"]) == expected
    assert (delta["delta"]["stop_reason"], delta["delta"]["stop_sequence"]) == expected


def test_what_reaches_the_worker(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    blocks = [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "you"}]
    schema = {"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "low"}
    answer = create(
        api,
        system=[{"type": "text", "text": "Be brief"}],
        messages=[{"role": "user", "content": blocks}],
        temperature=0,
        top_p=0,
        top_k=7,
        stop_sequences=["x"],
        output_config=schema,
        thinking={"type": "disabled"},
        metadata={"user_id": "ann"},
        service_tier="auto",
    )
    prompt, sampling = seen.params[0].prompt, seen.params[0].sampling
    system = {"role": "system", "content": "Be brief"}
    assert prompt == Conversation((system, {"role": "user", "content": "Hi\nyou"}), variables=OFF)
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_k, sampling.stop) == (9, 0, 7, ("x",))
    assert sampling.is_greedy
    assert sampling.grammar == Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object"}')
    named = "messages[].content[].cache_control, metadata, output_config.effort, service_tier"
    assert answer.headers["X-Ignored-Fields"] == named


def test_the_answer_continues_a_message_of_the_assistant(start_api: StartApi, seen: Seen) -> None:
    begun = [USER, {"role": "assistant", "content": "Sure, "}]
    create(start_api(seen), messages=begun)
    assert seen.params[0].prompt == Conversation(tuple(begun), ending=Ending.CONTINUE, variables=OFF)


def test_an_answer_can_be_sent_back(api: Api) -> None:
    said = create(api).json
    again = [USER, {"role": said["role"], "content": said["content"]}, USER]
    assert create(api, messages=again).status_code == 200


def test_what_another_model_thought_is_accepted(start_api: StartApi, seen: Seen) -> None:
    thought = [{"type": "thinking", "thinking": "Hm", "signature": "x"}, {"type": "redacted_thinking", "data": "y"}]
    said = {"role": "assistant", "content": [*thought, {"type": "text", "text": "Hello"}]}
    thinking = {"type": "enabled", "budget_tokens": 1024}
    answer = create(start_api(seen), messages=[USER, said, USER], thinking=thinking)
    assert answer.status_code == 200
    prompt = seen.params[0].prompt
    assert isinstance(prompt, Conversation)
    assert prompt.messages[1] == {"role": "assistant", "content": "Hello", "reasoning_content": "Hm"}
    named = ("messages[].content[].data", "messages[].content[].signature", "thinking.budget_tokens")
    assert answer.headers["X-Ignored-Fields"] == ", ".join(named)
    assert create(start_api(seen), messages=[{"role": "user", "content": thought}]).status_code == 400


def test_tokens_of_the_cache_are_counted_apart(start_api: StartApi) -> None:
    usage = create(start_api(lambda play: play.end("ok", cached_tokens=1))).json["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (3, 1, 0)


def test_the_tokens_are_counted(api: Api) -> None:
    def count(**body: Any) -> int:
        answer = api.client.post("/v1/messages/count_tokens", json={"model": MODEL, "messages": MESSAGES} | body)
        return int(answer.json["input_tokens"])

    assert count(system="Be brief") > count() > 0


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0].content[0]"),
        ({"thinking": {"type": "much"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
    ],
)
def test_errors_name_the_field(api: Api, body: Json, named: str) -> None:
    answer = create(api, **body)
    assert (answer.status_code, answer.json["type"]) == (400, "error")
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert named in answer.json["error"]["message"]


def test_other_errors_have_anthropic_s_types(api: Api) -> None:
    assert create(api, model="gpt-5").json["error"]["type"] == "not_found_error"
    assert create(api, model="gpt-5").status_code == 404


def test_a_failing_stream_ends_with_an_error(start_api: StartApi) -> None:
    def late(play: Play) -> None:
        play.say("a")
        play.fail(InvalidRequest("It cannot be followed.", param="response_format"))

    last = events_of(create(start_api(late), stream=True))[-1]
    assert (last["type"], last["error"]) == (
        "error",
        {"type": "invalid_request_error", "message": "It cannot be followed."},
    )


def test_a_request_for_a_thread_is_refused_as_clients_expect_that_go_on_without(api: Api) -> None:
    error = create(api, thread={"type": "create"}).json["error"]
    assert error["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    assert "'thread' is not supported" in error["message"]
