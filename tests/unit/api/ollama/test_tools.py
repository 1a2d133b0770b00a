"""Tools in Ollama's API: what reaches the worker, and the calls in answers, whole and in lines."""

from __future__ import annotations

from typing import Any

import pytest

from common.jobs.prompts import Conversation
from common.jobs.tools import MAX_CALLS, ToolRules
from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi
from tests.unit.api.ollama.test_ollama import Json, chat, lines_of
from tests.unit.api.openai.conftest import MESSAGES, Seen
from tests.unit.api.openai.test_tools import ONE, TOOLS, TWO, WEATHER, says

PARIS: Json = {"name": "weather", "arguments": {"city": "Paris"}}


def test_the_worker_gets_the_tools_and_their_rules(start_api: StartApi, seen: Seen) -> None:
    chat(start_api(seen), tools=TOOLS, format="json")
    (params,) = seen.params
    assert isinstance(params.prompt, Conversation)
    assert params.prompt.tools[0] == WEATHER
    assert params.sampling.grammar is not None
    rules = ToolRules.of(params.sampling.grammar)
    assert ([one.name for one in rules.functions], rules.must_call, rules.max_calls) == (
        ["weather", "now"],
        False,
        MAX_CALLS,
    )
    assert rules.content == {"kind": "json_object", "source": ""}


def result(text: str, **fields: Any) -> Json:
    return {"role": "tool", "content": text, **fields}


@pytest.mark.parametrize(
    ("ids", "results", "answered"),
    [
        ((None, None), [result("a"), result("b")], ["call_1", "call_2"]),
        ((None, None), [result("b", tool_name="now"), result("a", tool_name="weather")], ["call_2", "call_1"]),
        (("x", "y"), [result("b", tool_call_id="y"), result("a")], ["y", "x"]),
        ((None, None), [result("a"), result("b"), result("c")], ["call_1", "call_2", "call_3"]),
    ],
    ids=["in order", "by name", "by id", "one too many"],
)
def test_results_belong_to_calls(
    start_api: StartApi, seen: Seen, ids: tuple[str | None, str | None], results: list[Json], answered: list[str]
) -> None:
    calls = [{"id": ids[0], "function": PARIS}, {"id": ids[1], "function": {"name": "now", "arguments": {}}}]
    said = {"role": "assistant", "content": "", "tool_calls": calls}
    assert chat(start_api(seen), messages=[*MESSAGES, said, *results]).status_code == 200
    prompt = seen.params[0].prompt
    assert isinstance(prompt, Conversation)
    wanted = [ids[0] or "call_1", ids[1] or "call_2"]
    assert [one["id"] for one in prompt.messages[1]["tool_calls"]] == wanted
    assert prompt.messages[1]["tool_calls"][0]["function"] == PARIS
    assert [one["tool_call_id"] for one in prompt.messages[2:]] == answered
    assert [one.get("name") for one in prompt.messages[2:]] == [one.get("tool_name") for one in results]


CALLS = [("weather", {"city": "Paris"}), ("now", {})]


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        (ONE, "", CALLS[:1]),
        (f"I look it up.\n{TWO}", "I look it up.", CALLS),
        ("Just text.", "Just text.", []),
        (ONE[:55], "", []),
    ],
    ids=["a call", "text and two calls", "text", "a call that was cut off"],
)
def test_calls_in_an_answer(start_api: StartApi, text: str, said: str, calls: list[tuple[str, Json]]) -> None:
    api = start_api(says(text))
    whole = chat(api, tools=TOOLS)
    job_id = whole.headers["X-Job-Id"]
    message = whole.json["message"]
    assert (message["content"], message.get("tool_calls", [])) == (said, written(job_id, calls))
    assert whole.json["done_reason"] == "stop"
    stream = chat(api, tools=TOOLS, stream=True)
    *pieces, last = lines_of(stream)
    assert "".join(one["message"]["content"] for one in pieces) == said
    found = [one["message"]["tool_calls"] for one in pieces if "tool_calls" in one["message"]]
    assert found == [written(stream.headers["X-Job-Id"], calls)] * bool(calls)
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")


def written(job_id: str, calls: list[tuple[str, Json]]) -> list[Json]:
    return [
        {"id": f"call_{job_id}_{at}", "function": {"index": at, "name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(calls)
    ]


def test_an_answer_with_calls_can_be_sent_back(start_api: StartApi) -> None:
    api = start_api(says(TWO))
    said = chat(api, tools=TOOLS).json["message"]
    again = chat(api, tools=TOOLS, messages=[*MESSAGES, said, result("Rain", tool_name="weather"), result("12:00")])
    assert again.status_code == 200
    assert again.headers["X-Ignored-Fields"] == "messages[].tool_calls[].function.index"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [WEATHER, WEATHER]}, "tools must have different names"),
        ({"messages": [{"role": "user", "tool_calls": [{"function": PARIS}]}]}, "messages[0] must have the role"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "function.name"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": PARIS}]}]}, "messages must go on"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
    ids=["no function", "one name twice", "a call of the user", "a call of nothing", "no result", "a choice"],
)
def test_errors_name_the_field(api: Api, body: Json, named: str) -> None:
    answer = chat(api, **body)
    assert answer.status_code == 400
    assert named in answer.json["error"]
