"""Requests in the shapes that well-known applications send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.jobs.prompts import Conversation
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import data_of
from tests.unit.api.openai.test_responses import events_of

Json = dict[str, Any]

MODEL = "gpt2"
PARAMETERS = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CALL = '<tool_call>\n{"name": "HassTurnOn", "arguments": {"name": "lamp"}}\n</tool_call>'
LAMP = {"name": "lamp"}


def script(play: Play) -> None:
    """Call the tool, if there is one, and then say what it returned."""
    prompt = play.params.prompt
    assert isinstance(prompt, Conversation)
    last = prompt.messages[-1]
    play.end(CALL if prompt.tools and last["role"] == "user" else f"I heard: {last['content']}")


def home_assistant_response(messages: list[Json]) -> Json:
    tool = {"type": "function", "name": "HassTurnOn", "description": "Turns on", "parameters": PARAMETERS}
    return {
        "model": MODEL,
        "input": messages,
        "max_output_tokens": 3000,
        "top_p": 1.0,
        "temperature": 1.0,
        "user": "01JABCDEF",
        "store": False,
        "stream": True,
        "tools": [tool | {"strict": False}],
    }


def test_home_assistant_with_openai_s_responses(start_api: StartApi) -> None:
    api = start_api(script)
    said = [
        {"type": "message", "role": "developer", "content": "You are a voice assistant."},
        {"type": "message", "role": "user", "content": "Turn on the lamp"},
    ]
    first = events_of(api.client.post("/v1/responses", json=home_assistant_response(said)))[-1]["response"]
    (call,) = first["output"]
    assert (call["name"], json.loads(call["arguments"])) == ("HassTurnOn", LAMP)
    asked = {name: call[name] for name in ("type", "name", "arguments", "call_id")}
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"success": true}'}
    body = home_assistant_response([*said, asked, result])
    last = events_of(api.client.post("/v1/responses", json=body))[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == 'I heard: {"success": true}'


def home_assistant_chat(messages: list[Json]) -> Json:
    function = {"name": "HassTurnOn", "description": "Turns on", "parameters": PARAMETERS}
    return {
        "model": MODEL,
        "messages": messages,
        "tools": [{"type": "function", "function": function}],
        "stream": True,
        "keep_alive": -1,
        "options": {"num_ctx": 8192},
        "think": False,
    }


def test_home_assistant_with_ollama(start_api: StartApi) -> None:
    api = start_api(script)
    said: list[Json] = [{"role": "system", "content": "You are a voice assistant."}, {"role": "user", "content": "Hi"}]
    called, _ = api.client.post("/api/chat", json=home_assistant_chat(said)).get_data(as_text=True).splitlines()
    (call,) = json.loads(called)["message"]["tool_calls"]
    function = {name: call["function"][name] for name in ("name", "arguments")}
    assert function == {"name": "HassTurnOn", "arguments": LAMP}
    said += [{"role": "assistant", "content": "", "tool_calls": [{"function": function}]}]
    said += [{"role": "tool", "content": '{"success": true}'}]
    lines = api.client.post("/api/chat", json=home_assistant_chat(said)).get_data(as_text=True).splitlines()
    assert json.loads(lines[0])["message"]["content"] == 'I heard: {"success": true}'


def n8n(**fields: Any) -> Json:
    asked = [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]
    fixed = {"parallel_tool_calls": True, "store": True, "background": False}
    return {"model": MODEL, "input": asked} | fixed | fields


def test_n8n_with_responses(start_api: StartApi) -> None:
    api = start_api(script)
    first = api.client.post("/v1/responses", json=n8n(instructions="Be brief")).json
    assert first["output"][0]["content"][0]["text"] == "I heard: Hi"
    more = n8n(previous_response_id=first["id"], prompt_cache_key="a", safety_identifier="b", service_tier="auto")
    assert api.client.post("/v1/responses", json=more).json["previous_response_id"] == first["id"]
    form = {"verbosity": "low", "format": {"type": "json_schema", "name": "x", "schema": PARAMETERS}}
    assert api.client.post("/v1/responses", json=n8n(text=form, truncation="disabled")).status_code == 200
    tool = {"type": "function", "name": "HassTurnOn", "parameters": PARAMETERS, "strict": True}
    (call,) = api.client.post("/v1/responses", json=n8n(tools=[tool])).json["output"]
    again = n8n(tools=[tool])
    again["input"] += [call, {"type": "function_call_output", "call_id": call["call_id"], "output": "on"}]
    assert api.client.post("/v1/responses", json=again).json["output"][0]["content"][0]["text"] == "I heard: on"


def test_open_webui_with_openai_s_api(start_api: StartApi) -> None:
    api = start_api(script)
    assert api.client.get("/v1/models").json["data"][0]["id"] == "default"
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    stream = api.client.post(
        "/v1/chat/completions", json=asked | {"stream": True, "stream_options": {"include_usage": True}}
    )
    *chunks, usage = data_of(stream)
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks) == "I heard: Hi"
    assert usage["usage"]["completion_tokens"] > 0
    title = api.client.post("/v1/chat/completions", json=asked | {"stream": False, "max_completion_tokens": 1000})
    assert title.json["choices"][0]["message"]["content"] == "I heard: Hi"


def test_open_webui_with_ollama(start_api: StartApi) -> None:
    api = start_api(script)
    for path in ("tags", "version", "ps"):
        assert api.client.get(f"/api/{path}").status_code == 200
    body = {
        "model": f"{MODEL}:latest",
        "messages": [{"role": "user", "content": "Hi", "images": []}],
        "options": {"temperature": 0.5, "num_ctx": 2048, "num_predict": 1000, "stop": ["x"]},
        "stream": True,
        "keep_alive": "5m",
    }
    lines = api.client.post("/api/chat", json=body).get_data(as_text=True).splitlines()
    assert json.loads(lines[0])["message"]["content"] == "I heard: Hi"


@pytest.mark.parametrize("tool", ["web_search", "mcp", "code_interpreter"])
def test_tools_that_openai_runs_are_refused_by_name(start_api: StartApi, tool: str) -> None:
    answer = start_api(script).client.post("/v1/responses", json=n8n(tools=[{"type": tool}]))
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "tools[0]")
