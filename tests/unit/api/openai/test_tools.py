"""Tools in chat completions: the worker's input, and the calls in answers, whole and in chunks."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.prompts import Conversation
from common.jobs.sampling import Grammar, GrammarKind
from common.jobs.tools import MAX_CALLS, ToolRules
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import MESSAGES, Seen, chat, data_of

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells the weather", "parameters": CITY},
}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now", "strict": True}}
TOOLS = [WEATHER, NOW]
ONE = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
TWO = ONE + '\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


def says(text: str, finish_reason: str = "stop") -> Any:
    """A script: answer with the text, character by character."""

    def script(play: Play) -> None:
        play.say(*text[:-1])
        play.end(text[-1], finish_reason=finish_reason)

    return script


class Sent:
    """Sends a chat, and returns what the worker gets."""

    def __init__(self, api: Api, seen: Seen) -> None:
        self._api = api
        self._seen = seen

    def __call__(self, **body: Any) -> GenerateParams:
        assert chat(self._api, **body).status_code == 200
        return self._seen.params[-1]


@pytest.fixture
def sent(start_api: StartApi, seen: Seen) -> Sent:
    return Sent(start_api(seen), seen)


def rules_of(params: GenerateParams) -> ToolRules:
    assert params.sampling.grammar is not None
    return ToolRules.of(params.sampling.grammar)


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def test_the_worker_gets_the_tools_and_their_rules(sent: Sent) -> None:
    params = sent(tools=TOOLS)
    assert isinstance(params.prompt, Conversation)
    nothing = {"type": "object", "properties": {}}
    assert params.prompt.tools == (WEATHER, {"type": "function", "function": {"name": "now", "parameters": nothing}})
    rules = rules_of(params)
    assert [(one.name, one.parameters, one.strict) for one in rules.functions] == [
        ("weather", CITY, False),
        ("now", nothing, True),
    ]
    assert (rules.must_call, rules.max_calls, rules.content) == (False, MAX_CALLS, None)


@pytest.mark.parametrize(
    ("choice", "names", "must_call", "max_calls"),
    [
        ("auto", ["weather", "now"], False, MAX_CALLS),
        ("required", ["weather", "now"], True, MAX_CALLS),
        (named("now"), ["now"], True, 1),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named("weather")]}},
            ["weather"],
            False,
            MAX_CALLS,
        ),
    ],
)
def test_the_choice_sets_the_rules(sent: Sent, choice: Any, names: list[str], must_call: bool, max_calls: int) -> None:
    params = sent(tools=TOOLS, tool_choice=choice)
    rules = rules_of(params)
    assert ([one.name for one in rules.functions], rules.must_call, rules.max_calls) == (names, must_call, max_calls)
    assert isinstance(params.prompt, Conversation)
    assert len(params.prompt.tools) == len(TOOLS)


@pytest.mark.parametrize(
    "body",
    [
        {"tools": []},
        {"tools": None, "tool_choice": "auto"},
        {"tool_choice": "none", "parallel_tool_calls": False},
        {"functions": [], "function_call": "auto"},
        {"tools": TOOLS, "tool_choice": "none"},
    ],
)
def test_without_a_tool_to_call_the_request_is_a_plain_one(sent: Sent, body: dict[str, Any]) -> None:
    params = sent(**body)
    assert params.sampling.grammar is None
    assert params.prompt == Conversation(({"role": "user", "content": "Hi"},))


def test_one_call_at_most_without_parallel_calls(sent: Sent) -> None:
    assert rules_of(sent(tools=TOOLS, parallel_tool_calls=False)).max_calls == 1


def test_a_response_format_is_the_form_of_the_text(sent: Sent) -> None:
    json_object = {"type": "json_object"}
    assert rules_of(sent(tools=TOOLS, response_format=json_object)).content == {
        "kind": "json_object",
        "source": "",
    }
    plain = sent(tools=TOOLS, tool_choice="none", response_format=json_object)
    assert plain.sampling.grammar == Grammar(GrammarKind.JSON_OBJECT)


def test_stop_strings_cannot_cut_off_a_required_call(sent: Sent) -> None:
    assert sent(tools=TOOLS, tool_choice="required", stop="}").sampling.stop == ()
    assert sent(tools=TOOLS, stop="}").sampling.stop == ("}",)


def test_calls_and_results_reach_the_worker(sent: Sent) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "Rain"}]},
    ]
    messages[1].pop("refusal")
    prompt = sent(messages=messages).prompt
    assert isinstance(prompt, Conversation)
    read_back = call | {"function": {"name": "weather", "arguments": {"city": "Paris"}}}
    assert prompt.messages[1:] == (
        {"role": "assistant", "content": "", "tool_calls": [read_back]},
        {"role": "tool", "content": "Rain", "tool_call_id": "call_1"},
    )


def test_a_call_becomes_part_of_the_message(start_api: StartApi) -> None:
    answer = chat(start_api(says(ONE)), tools=TOOLS).json
    (choice,) = answer["choices"]
    job_id = answer["id"].removeprefix("chatcmpl-")
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {
                "id": f"call_{job_id}_0",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
            }
        ],
    }
    assert choice["finish_reason"] == "tool_calls"


def test_text_and_several_calls(start_api: StartApi) -> None:
    (choice,) = chat(start_api(says(f"I look it up.\n{TWO}")), tools=TOOLS).json["choices"]
    assert choice["message"]["content"] == "I look it up."
    assert [one["function"]["name"] for one in choice["message"]["tool_calls"]] == ["weather", "now"]


def test_an_answer_without_calls_is_as_ever(start_api: StartApi) -> None:
    (choice,) = chat(start_api(says("No tool is needed. <tool")), tools=TOOLS).json["choices"]
    assert choice["message"] == {"role": "assistant", "content": "No tool is needed. <tool", "refusal": None}
    assert choice["finish_reason"] == "stop"


def test_text_that_looks_like_a_call_stays_text_without_tools(start_api: StartApi) -> None:
    (choice,) = chat(start_api(says(ONE))).json["choices"]
    assert choice["message"]["content"] == ONE


def test_a_call_that_was_cut_off_says_so(start_api: StartApi) -> None:
    (choice,) = chat(start_api(says(ONE[:-20], "length")), tools=TOOLS).json["choices"]
    assert choice["finish_reason"] == "length"
    assert '{"city": "Paris"}'.startswith(choice["message"]["tool_calls"][0]["function"]["arguments"])


def test_the_form_is_the_one_that_the_worker_reports(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.status("Generating response...", tool_form="llama")
        play.end('{"name": "weather", "parameters": {"city": "Rome"}}')

    api = start_api(script)
    (choice,) = chat(api, tools=TOOLS).json["choices"]
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Rome"}'
    deltas = [chunk["choices"][0]["delta"] for chunk in data_of(chat(api, tools=TOOLS, stream=True))]
    assert deltas[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": ""}


def test_a_stream_has_the_chunks_of_openai(start_api: StartApi) -> None:
    chunks = data_of(chat(start_api(says(TWO)), tools=TOOLS, stream=True))
    job_id = chunks[0]["id"].removeprefix("chatcmpl-")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": None}
    begin = {"index": 0, "id": f"call_{job_id}_0", "type": "function", "function": {"name": "weather", "arguments": ""}}
    assert deltas[1] == {"tool_calls": [begin]}
    assert deltas[2] == {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}
    assert deltas[-4]["tool_calls"][0]["id"] == f"call_{job_id}_1"
    assert deltas[-1] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["tool_calls"]


def test_a_stream_and_a_whole_answer_agree(start_api: StartApi) -> None:
    api = start_api(says(f"Well. \n{TWO}"))
    (whole,) = chat(api, tools=TOOLS).json["choices"]
    deltas = [chunk["choices"][0]["delta"] for chunk in data_of(chat(api, tools=TOOLS, stream=True))]
    assert "".join(delta.get("content") or "" for delta in deltas) == whole["message"]["content"] == "Well."
    for index, call in enumerate(whole["message"]["tool_calls"]):
        parts = [part for delta in deltas for part in delta.get("tool_calls", ()) if part["index"] == index]
        assert "".join(part["function"]["arguments"] for part in parts) == call["function"]["arguments"]


def test_the_choices_have_their_own_calls(start_api: StartApi) -> None:
    choices = chat(start_api(says(ONE)), tools=TOOLS, n=2).json["choices"]
    ids = [choice["message"]["tool_calls"][0]["id"] for choice in choices]
    assert len(set(ids)) == 2


def test_the_older_form(start_api: StartApi) -> None:
    api = start_api(says(ONE))
    functions = [WEATHER["function"]]
    (choice,) = chat(api, functions=functions, function_call={"name": "weather"}).json["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert "tool_calls" not in choice["message"]
    chunks = data_of(chat(api, functions=functions, stream=True))
    parts = [chunk["choices"][0]["delta"].get("function_call", {}) for chunk in chunks]
    assert parts[1] == {"name": "weather", "arguments": ""}
    assert "".join(part.get("arguments", "") for part in parts) == '{"city": "Paris"}'


def test_the_older_form_of_an_earlier_call(sent: Sent) -> None:
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": ""}},
        {"role": "function", "name": "weather", "content": "Rain"},
    ]
    prompt = sent(messages=messages, functions=[WEATHER["function"]]).prompt
    assert isinstance(prompt, Conversation)
    call, result = prompt.messages[1:]
    assert call["tool_calls"][0]["function"] == {"name": "weather", "arguments": {}}
    assert (result["role"], result["tool_call_id"]) == ("tool", call["tool_calls"][0]["id"])


def test_tools_that_are_too_large_are_refused(api: Api) -> None:
    large = {"type": "object", "properties": {"x" * 1000 + str(number): {} for number in range(60)}}
    tools = [{"type": "function", "function": {"name": f"f{number}", "parameters": large}} for number in range(2)]
    answer = chat(api, tools=tools)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "tools")


def test_a_worker_s_error_about_the_tools_names_the_field(start_api: StartApi) -> None:
    refusal = InvalidRequest("tools cannot be used: it is too complex", param="tools")
    api = start_api(lambda play: play.fail(refusal))
    for is_stream in (False, True):
        answer = chat(api, tools=TOOLS, stream=is_stream)
        assert (answer.status_code, answer.json["error"]["param"]) == (400, "tools")
