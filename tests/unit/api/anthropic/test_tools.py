"""Tools in Anthropic's API: what reaches the worker, and the calls in answers, whole and as events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.jobs.job import GenerateParams
from common.jobs.prompts import Conversation
from common.jobs.tools import MAX_CALLS, ToolRules
from tests.api_in_process import MODEL, Api
from tests.unit.api.anthropic.test_messages import OFF, USER, Json, create, events_of
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import Seen
from tests.unit.api.openai.test_tools import CITY, ONE, TWO, says

WEATHER: Json = {"name": "weather", "description": "Tells the weather", "input_schema": CITY}
NOW: Json = {
    "name": "now",
    "type": "custom",
    "input_schema": {"type": "object"},
    "cache_control": {"type": "ephemeral"},
}
TOOLS = [WEATHER, NOW]
PARIS: Json = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}


def rules_of(params: GenerateParams) -> ToolRules:
    assert params.sampling.grammar is not None
    return ToolRules.of(params.sampling.grammar)


@pytest.mark.parametrize(
    ("choice", "names", "must_call", "max_calls"),
    [
        (None, ["weather", "now"], False, MAX_CALLS),
        ({"type": "auto"}, ["weather", "now"], False, MAX_CALLS),
        ({"type": "auto", "disable_parallel_tool_use": True}, ["weather", "now"], False, 1),
        ({"type": "any"}, ["weather", "now"], True, MAX_CALLS),
        ({"type": "any", "disable_parallel_tool_use": True}, ["weather", "now"], True, 1),
        ({"type": "tool", "name": "now"}, ["now"], True, 1),
    ],
)
def test_the_choice_sets_the_rules(
    start_api: StartApi, seen: Seen, choice: Json | None, names: list[str], must_call: bool, max_calls: int
) -> None:
    answer = create(start_api(seen), tools=TOOLS, tool_choice=choice, stop_sequences=["}"])
    (params,) = seen.params
    rules = rules_of(params)
    assert ([one.name for one in rules.functions], rules.must_call, rules.max_calls) == (names, must_call, max_calls)
    assert isinstance(params.prompt, Conversation)
    described = {"name": "weather", "description": "Tells the weather", "parameters": CITY}
    assert params.prompt.tools[0] == {"type": "function", "function": described}
    assert params.sampling.stop == (() if must_call else ("}",))
    assert answer.headers["X-Ignored-Fields"] == "tools[].cache_control"


def test_no_choice_hides_the_tools(start_api: StartApi, seen: Seen) -> None:
    create(start_api(seen), tools=TOOLS, tool_choice={"type": "none"})
    assert seen.params[0].prompt == Conversation((USER,), variables=OFF)
    assert seen.params[0].sampling.grammar is None


def test_calls_and_results_reach_the_worker(start_api: StartApi, seen: Seen) -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Rain"}]},
        {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True},
        {"type": "text", "text": "Well?"},
        {"type": "text", "text": "Say it."},
    ]
    calls = [{"type": "text", "text": "I look."}, PARIS, PARIS | {"id": "toolu_2"}]
    said = [USER, {"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    answer = create(start_api(seen), messages=said)
    prompt = seen.params[0].prompt
    assert isinstance(prompt, Conversation)
    function = {"name": "weather", "arguments": {"city": "Paris"}}
    both = [{"id": f"toolu_{number}", "type": "function", "function": function} for number in (1, 2)]
    assert prompt.messages[1:] == (
        {"role": "assistant", "content": "I look.", "tool_calls": both},
        {"role": "tool", "content": "Rain", "tool_call_id": "toolu_1"},
        {"role": "tool", "content": "", "tool_call_id": "toolu_2"},
        {"role": "user", "content": "Well?\nSay it."},
    )
    assert answer.headers["X-Ignored-Fields"] == "messages[].content[].is_error"


def call(job_id: str, number: int, name: str, given: Json) -> Json:
    return {"type": "tool_use", "id": f"call_{job_id}_{number}", "name": name, "input": given}


@pytest.mark.parametrize(
    ("text", "said", "calls", "reason"),
    [
        (ONE, "", [("weather", {"city": "Paris"})], "tool_use"),
        (f"I look it up.\n{TWO}", "I look it up.", [("weather", {"city": "Paris"}), ("now", {})], "tool_use"),
        ("Just text.", "Just text.", [], "end_turn"),
        ("<", "<", [], "end_turn"),
    ],
    ids=["a call", "text and two calls", "text", "what might have been a call"],
)
def test_calls_in_an_answer(
    start_api: StartApi, text: str, said: str, calls: list[tuple[str, Json]], reason: str
) -> None:
    api = start_api(says(text))
    whole = create(api, tools=TOOLS)
    job_id = whole.headers["X-Job-Id"]
    texts = [{"type": "text", "text": said}] if said else []
    assert whole.json["content"] == [*texts, *(call(job_id, at, *one) for at, one in enumerate(calls))]
    assert whole.json["stop_reason"] == reason
    events = events_of(create(api, tools=TOOLS, stream=True))
    assert rebuilt(events) == [said] * bool(said) + [one for _, one in calls]
    assert events[-2]["delta"]["stop_reason"] == reason


def rebuilt(events: list[Json]) -> list[Any]:
    """The blocks that a client puts together, which begin and end one after the other."""
    texts: list[str] = []
    kinds: list[str] = []
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(texts)
                kinds.append(event["content_block"]["type"])
                texts.append("")
            case "content_block_delta":
                assert event["index"] == len(texts) - 1
                texts[-1] += event["delta"]["text" if kinds[-1] == "text" else "partial_json"]
    stops = [event["index"] for event in events if event["type"] == "content_block_stop"]
    assert stops == list(range(len(texts)))
    return [text if kind == "text" else json.loads(text) for kind, text in zip(kinds, texts, strict=True)]


def test_an_answer_without_anything_has_an_empty_text(start_api: StartApi) -> None:
    api = start_api(lambda play: play.end(""))
    assert create(api, tools=TOOLS).json["content"] == [{"type": "text", "text": ""}]
    assert rebuilt(events_of(create(api, tools=TOOLS, stream=True))) == [""]


def test_a_call_that_was_cut_off(start_api: StartApi) -> None:
    cut = says(ONE[:55], finish_reason="length")
    whole = create(start_api(cut), tools=TOOLS).json
    assert whole["stop_reason"] == "max_tokens"
    assert [(one["name"], one["input"]) for one in whole["content"]] == [("weather", {})]


def test_the_tools_are_counted(api: Api) -> None:
    def count(**body: Any) -> int:
        answer = api.client.post("/v1/messages/count_tokens", json={"model": MODEL, "messages": [USER]} | body)
        return int(answer.json["input_tokens"])

    assert count(tools=TOOLS) > count(tools=[WEATHER]) > count(tools=TOOLS, tool_choice={"type": "none"}) == count()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, 'tools[0] must have the type "custom"'),
        ({"tools": [{"name": "x", "input_schema": {"type": "string"}}]}, "tools[0].input_schema"),
        ({"tools": [WEATHER, WEATHER]}, "tools must have different names"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "then"}}, "tool_choice must name one of the tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice must have a name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice can only require a call if there are tools"),
        ({"messages": [USER, {"role": "assistant", "content": [PARIS]}]}, "messages must go on with the results"),
        ({"messages": [{"role": "user", "content": [PARIS]}]}, "messages[0] must not have a block of the type"),
        (
            {"messages": [USER, {"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
            "messages[1] must not have a block of the type 'tool_result'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": ""}]}]},
            "messages[0].content[0].tool_use_id",
        ),
    ],
    ids=[
        "no schema",
        "a wrong name",
        "a tool of theirs",
        "a schema of a string",
        "one name twice",
        "a choice of an unknown tool",
        "a choice without a name",
        "a choice without tools",
        "a call without its result",
        "a call of the user",
        "a result of the assistant",
        "a result without a call",
    ],
)
def test_errors_name_the_field(api: Api, body: Json, named: str) -> None:
    answer = create(api, **body)
    assert answer.status_code == 400
    assert named in answer.json["error"]["message"]
