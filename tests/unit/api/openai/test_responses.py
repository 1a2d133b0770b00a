"""Responses: the object, its events, and resuming them at any number."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from api.openai.responses.body import ResponseBody
from api.schemas.job_options import RequestOptions
from common.errors import InvalidRequest, PromptTooLong, WorkerLost
from common.jobs.prompts import Conversation
from common.jobs.sampling import Grammar, GrammarKind
from common.jobs.tools import ToolRules
from common.owners.api_keys import ApiKeyStore, Role
from tests.api_in_process import MODEL, REPORT, Api
from tests.scripted_worker import TIMEOUT_S, Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import Seen, frames_of
from tests.unit.api.openai.test_input import IGNORED, NO_NUMBER, SAMPLING

Json = dict[str, Any]


def respond(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/v1/responses", json={"model": MODEL, "input": "Hi"} | body)


def background(api: Api, **body: Any) -> str:
    return str(respond(api, background=True, **body).json["id"])


def events_of(stream: TestResponse) -> list[Json]:
    found = []
    for frame in frames_of(stream):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def stream_again(api: Api, response_id: str, **args: Any) -> list[Json]:
    return events_of(api.client.get(f"/v1/responses/{response_id}", query_string={"stream": "true"} | args))


def test_a_response_has_its_text_and_its_tokens(api: Api) -> None:
    answer = respond(api, metadata={"a": "b"}, instructions="Be brief", max_output_tokens=9).json
    assert answer["status"] == "completed"
    assert answer["output"][0]["content"][0]["text"] == "Once upon a time."
    assert answer["usage"]["output_tokens"] == 3
    assert (answer["metadata"], answer["instructions"], answer["max_output_tokens"]) == ({"a": "b"}, "Be brief", 9)


def test_the_instructions_come_first_in_the_conversation(start_api: StartApi, seen: Seen) -> None:
    earlier = {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}],
    }
    respond(start_api(seen), instructions="Be brief", input=[earlier, {"role": "user", "content": "b"}])
    assert seen.params[0].prompt == Conversation(
        (
            {"role": "system", "content": "Be brief"},
            {"role": "assistant", "content": "a"},
            {"role": "user", "content": "b"},
        )
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Grammar(GrammarKind.JSON_OBJECT)),
        ({"type": "json_schema", "name": "x", "schema": {}}, Grammar(GrammarKind.JSON_SCHEMA, "{}")),
    ],
)
def test_the_form_of_the_text_reaches_the_worker(
    start_api: StartApi, seen: Seen, wanted: Json, expected: Grammar | None
) -> None:
    assert respond(start_api(seen), text={"format": wanted}).json["text"] == {"format": wanted}
    assert seen.params[0].sampling.grammar == expected


def test_sampling_fields_reach_the_worker(start_api: StartApi, seen: Seen) -> None:
    wanted = {"top_k": 40, "min_p": 0.1, "repetition_penalty": 1.2, "frequency_penalty": 0.5, "seed": 42, "stop": "x"}
    assert respond(start_api(seen), **wanted).status_code == 200
    sent = seen.params[0].sampling
    assert {name: getattr(sent, name) for name in wanted} == wanted | {"stop": ("x",)}


def test_the_events_are_numbered_from_0_and_end_with_the_whole_response(api: Api) -> None:
    events = events_of(respond(api, stream=True))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events[-1]["response"]
    assert last == api.client.get(f"/v1/responses/{last['id']}").json


def test_a_stream_can_be_resumed_after_any_event(api: Api) -> None:
    response_id = background(api)
    whole = stream_again(api, response_id)
    for event in whole:
        number = event["sequence_number"]
        assert stream_again(api, response_id, starting_after=number) == whole[number + 1 :]


def test_another_process_sends_the_same_events(api: Api, start_api: StartApi) -> None:
    whole = events_of(respond(api, stream=True))
    response_id = whole[0]["response"]["id"]
    assert stream_again(start_api(), response_id) == whole


def test_a_background_response_can_be_read_at_once_and_later(start_api: StartApi) -> None:
    may_end = threading.Event()

    def script(play: Play) -> None:
        assert may_end.wait(TIMEOUT_S)
        play.end("done")

    api = start_api(script, report=REPORT.but(slots=1))
    for _ in range(2):  # one runs, and one is dispatched ahead
        background(api)
    first = respond(api, background=True).json
    assert (first["status"], first["output"], first["usage"]) == ("queued", [], None)
    may_end.set()
    stream_again(api, first["id"])
    assert api.client.get(f"/v1/responses/{first['id']}").json["status"] == "completed"


def test_a_response_in_progress_shows_its_text_so_far(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say("Once ")
        play.run_until_cancelled()

    api = start_api(script)
    response_id = background(api)
    stream = api.client.get(f"/v1/responses/{response_id}?stream=true")
    for frame in stream.response:
        if b"output_text.delta" in frame:  # type: ignore[operator]
            break
    now = api.client.get(f"/v1/responses/{response_id}").json
    assert (now["status"], now["output"][0]["content"][0]["text"]) == ("in_progress", "Once ")
    ended = api.client.post(f"/v1/responses/{response_id}/cancel").json
    assert (ended["status"], ended["output"][0]["status"]) == ("cancelled", "incomplete")
    stream.close()


def test_a_cancelled_response_ends_its_stream(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    response_id = background(api)
    api.client.post(f"/v1/responses/{response_id}/cancel")
    last = stream_again(api, response_id)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "cancelled")


def test_only_a_background_response_can_be_cancelled(api: Api) -> None:
    response_id = respond(api).json["id"]
    assert api.client.post(f"/v1/responses/{response_id}/cancel").status_code == 400


def test_a_text_that_was_cut_off_is_incomplete(start_api: StartApi) -> None:
    answer = respond(start_api(lambda play: play.end("Once", finish_reason="length"))).json
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["output"][0]["status"] == "incomplete"


def test_a_response_that_fails_says_why(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say("Once ")
        play.fail(WorkerLost("gone"))

    api = start_api(script)
    response_id = background(api)
    last = stream_again(api, response_id)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": "worker_lost", "message": "gone"}
    assert last["response"] == api.client.get(f"/v1/responses/{response_id}").json


def test_a_prompt_that_is_too_long_names_the_input(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(PromptTooLong("x", param="prompt")))
    for stream in (False, True):
        answer = respond(api, stream=stream)
        assert (answer.status_code, answer.json["error"]["param"]) == (400, "input")


def test_a_schema_that_the_worker_refuses_is_named_as_it_came(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(InvalidRequest("x", param="response_format")))
    assert respond(api).json["error"]["param"] == "text.format"


def test_a_response_that_is_not_stored_is_not_found(api: Api) -> None:
    response_id = respond(api, store=False).json["id"]
    answer = api.client.get(f"/v1/responses/{response_id}")
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "not_found")


def test_another_job_is_not_found_as_a_response(api: Api, redis: Redis) -> None:
    chat_id = api.submit()
    for response_id in ("resp_x", f"resp_{chat_id}", chat_id, "resp_"):
        assert api.client.get(f"/v1/responses/{response_id}").status_code == 404
        assert api.client.post(f"/v1/responses/{response_id}/cancel").status_code == 404


def test_somebody_else_s_response_is_not_found(start_api: StartApi, redis: Redis) -> None:
    response_id = respond(start_api()).json["id"]
    key = ApiKeyStore(redis).create("someone", Role.USER)
    answer = start_api().client.get(f"/v1/responses/{response_id}", headers={"X-API-Key": key})
    assert answer.status_code == 404


def test_the_id_is_the_job_s(api: Api) -> None:
    answer = respond(api)
    assert answer.json["id"] == f"resp_{answer.headers['X-Job-Id']}"


WRONG: dict[str, list[Any]] = (IGNORED | SAMPLING) | {
    "model": [1, ""],
    "tools": [1, {}, [1], [{}]],
    "tool_choice": [1, "any", "required"],
    "parallel_tool_calls": [1, "x"],
    "input": [1, "", [], [1], {}],
    "instructions": [1, []],
    "chat_template_kwargs": [1, "x", [], {"tools": 1}, {str(i): 1 for i in range(17)}],
    "previous_response_id": [1, ""],
    "conversation": [1, "conv_1", []],
    "max_output_tokens": [0, "1", True, 1.5],
    "include": [1, "x", ["file_search_call.results"], [1]],
    "top_logprobs": [*NO_NUMBER, -1, 21, 0.5],
    "text": [1, "x", []],
    "metadata": [1, [], {str(i): "" for i in range(17)}],
    "user": [1],
    "stream": [1, "true"],
    "background": [1, "true"],
    "store": [1, "true"],
}


def test_every_field_has_its_cases() -> None:
    assert set(WRONG) == set(ResponseBody.model_fields) - set(RequestOptions.model_fields) | {"conversation"}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_name(shared_api: Api, field: str, value: Any) -> None:
    answer = respond(shared_api, **{field: value})
    assert (answer.status_code, answer.json["error"]["param"].partition("[")[0]) == (400, field)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": 1}]}, "input[0].output"),
        ({"background": True, "store": False}, "store"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"verbosity": 1}}, "text.verbosity"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"background": True, "on_disconnect": "cancel"}, "on_disconnect"),
    ],
)
def test_unsupported_values_are_refused_by_path(api: Api, body: Json, param: str) -> None:
    answer = respond(api, **body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_an_error_inside_a_value_does_not_describe_the_whole_value(api: Api) -> None:
    assert "must be an object" not in respond(api, metadata={"a": 1}).json["error"]["message"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("stream=yes", "stream"),
        ("starting_after=1", "starting_after"),
        ("stream=true&starting_after=-1", "starting_after"),
        ("stream=true&starting_after=x", "starting_after"),
        ("include=x", "include"),
    ],
)
def test_a_wrong_query_is_refused_by_name(api: Api, query: str, param: str) -> None:
    answer = api.client.get(f"/v1/responses/{respond(api).json['id']}?{query}")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


TOOL: Json = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": True}
CALLS = 'Well.\n<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>'


def calling(play: Play) -> None:
    play.say(*CALLS[:-1])
    play.end(CALLS[-1])


def test_a_call_is_an_item_of_its_own(start_api: StartApi) -> None:
    answer = respond(start_api(calling), tools=[TOOL], tool_choice="required", parallel_tool_calls=False).json
    job_id = answer["id"].removeprefix("resp_")
    message, call = answer["output"]
    assert message["content"][0]["text"] == "Well."
    assert call == {
        "id": f"fc_{job_id}_0",
        "type": "function_call",
        "status": "completed",
        "arguments": "{}",
        "call_id": f"call_{job_id}_0",
        "name": "weather",
    }
    assert answer["tools"] == [TOOL | {"description": None}]
    assert (answer["tool_choice"], answer["parallel_tool_calls"]) == ("required", False)


def test_a_stream_of_calls_ends_each_item_before_the_next(start_api: StartApi) -> None:
    api = start_api(calling)
    events = events_of(respond(api, tools=[TOOL], stream=True))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    items = [event for event in events if "output_item" in event["type"]]
    assert [(one["type"].rpartition(".")[2], one["output_index"], one["item"]["type"]) for one in items] == [
        ("added", 0, "message"),
        ("done", 0, "message"),
        ("added", 1, "function_call"),
        ("done", 1, "function_call"),
    ]
    deltas = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == "{}"
    (done,) = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert (done["arguments"], done["name"]) == ("{}", "weather")
    assert events[-1]["response"]["output"] == [items[1]["item"], items[3]["item"]]


def test_a_stream_of_calls_can_be_resumed_anywhere(start_api: StartApi) -> None:
    api = start_api(calling)
    events = events_of(respond(api, tools=[TOOL], stream=True))
    response_id = events[0]["response"]["id"]
    for after in range(0, len(events) - 1, 5):
        assert stream_again(api, response_id, starting_after=after) == events[after + 1 :]


def test_calls_and_results_are_input(start_api: StartApi, seen: Seen) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}", "id": "fc_1", "status": None}
    items = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Well."},
        call | {"status": "completed", "unknown_but_null": None},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "Rain"}]},
    ]
    assert respond(start_api(seen), input=items, tools=[TOOL]).status_code == 200
    prompt = seen.params[0].prompt
    assert isinstance(prompt, Conversation)
    function = {"name": "weather", "arguments": {}}
    assert prompt.messages[1:] == (
        {
            "role": "assistant",
            "content": "Well.",
            "tool_calls": [{"id": "c", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "Rain", "tool_call_id": "c"},
    )


@pytest.mark.parametrize(
    ("choice", "must_call"),
    [
        ("required", True),
        ({"type": "function", "name": "weather"}, True),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]}, False),
    ],
)
def test_the_choice_of_tools(start_api: StartApi, seen: Seen, choice: Any, must_call: bool) -> None:
    assert respond(start_api(seen), tools=[TOOL], tool_choice=choice).json["tool_choice"] == choice
    grammar = seen.params[0].sampling.grammar
    assert grammar is not None
    assert ToolRules.of(grammar).must_call is must_call


@pytest.mark.parametrize("body", [{"tools": []}, {"tool_choice": "auto"}, {"tool_choice": "none", "tools": [TOOL]}])
def test_without_a_tool_to_call_a_response_is_a_plain_one(start_api: StartApi, seen: Seen, body: Json) -> None:
    answer = respond(start_api(seen), **body).json
    assert seen.params[0].sampling.grammar is None
    assert (answer["tools"], answer["tool_choice"]) == ([], "none")


def test_thoughts_of_another_model_are_not_shown_and_its_template_s_variables_are(
    start_api: StartApi, seen: Seen
) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
    said = {"role": "assistant", "content": "Hello"}
    body = {
        "input": [thought, said, {"role": "user", "content": "Hi"}],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert start_api(seen).client.post("/v1/responses", json=body).status_code == 200
    prompt = seen.params[0].prompt
    assert isinstance(prompt, Conversation)
    assert [one["content"] for one in prompt.messages] == ["Hello", "Hi"]
    assert prompt.variables == {"enable_thinking": False}


def test_thoughts_alone_are_no_input(shared_api: Api) -> None:
    answer = shared_api.client.post("/v1/responses", json={"input": [{"type": "reasoning", "summary": []}]})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "input")
