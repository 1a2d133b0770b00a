"""Wrong fields are refused by name, in OpenAI's shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.openai.chat import ChatBody
from api.openai.completions import CompletionBody
from api.schemas.job_options import RequestOptions
from tests.api_in_process import MODEL, Api
from tests.unit.api.openai.conftest import chat, complete

NO_TEXT: list[Any] = [1, True, {}, 0.5]
NO_NUMBER: list[Any] = [True, "1", [], {}]
IGNORED: dict[str, list[Any]] = {
    "user": [1, True, {}, []],
    "safety_identifier": [1, []],
    "store": [1, "true", []],
    "metadata": [1, "x", []],
    "service_tier": [1, []],
    "prompt_cache_key": [1, []],
    "prompt_cache_retention": [1, []],
    "verbosity": [1, []],
    "reasoning_effort": [1, []],
    "reasoning": [1, "x", []],
    "modalities": [1, "text", [], ["audio"], ["text", "audio"], ["text", "text"]],
    "include": [1, "x", ["message.output_text.logprobs"], [1]],
    "truncation": [1, "auto"],
    "best_of": [0, 2, "1", []],
    "cache_prompt": [1, "true"],
    "id_slot": ["0", 0.5, True],
    "timings_per_token": [1],
    "return_progress": [1],
    "reasoning_format": [1, []],
    "n_probs": [1, False, "0"],
    "mirostat": [1, 2, False],
    "dynatemp_range": [0.5],
    "xtc_probability": [0.5],
    "dry_multiplier": [0.8],
    "typical_p": [0.9, 0, True],
    "use_beam_search": [True, 0],
    "include_stop_str_in_output": [True, 0],
    "skip_special_tokens": [False, 1],
    "spaces_between_special_tokens": [False, 1],
    "request_id": [1, []],
}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
CALL: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FORM: dict[str, list[Any]] = {
    "response_format": [1, "json_object", []],
    "structured_outputs": [1, "x", []],
    "guided_json": [1, []],
    "guided_regex": [1, "", []],
    "guided_choice": [1, [], [""], [1]],
    "guided_grammar": [1, "", []],
    "grammar": [1, "", []],
    "json_schema": [1, "{}", []],
}
SAMPLING: dict[str, list[Any]] = {
    "temperature": [*NO_NUMBER, -0.1, 2.1],
    "top_p": [*NO_NUMBER, -0.1, 1.1],
    "stop": [*NO_TEXT, [1], ["a"] * 9],
    "seed": [*NO_NUMBER, 0.5, 2**63],
    "presence_penalty": [*NO_NUMBER, -2.1, 2.1],
    "frequency_penalty": [*NO_NUMBER, -2.1, 2.1],
    "logit_bias": [1, "x", [], {str(i): 0 for i in range(1025)}],
    "top_k": [*NO_NUMBER, -2, 1_000_001, 0.5],
    "min_p": [*NO_NUMBER, -0.1, 1.1],
    "repetition_penalty": [*NO_NUMBER, 0, 101],
    "ignore_eos": [0, "true"],
    "min_tokens": [*NO_NUMBER, -1, 0.5],
    "stop_token_ids": [1, "x", [0] * 65],
}
SHARED: dict[str, list[Any]] = (
    IGNORED
    | FORM
    | SAMPLING
    | {
        "model": [*NO_TEXT, ""],
        "n": [*NO_NUMBER, 0, -1, 129, 1.5],
        "stream": [1, "true", []],
        "stream_options": [1, "x", [], True],
        "prompt_logprobs": [*NO_NUMBER, -1, 21, 0.5],
        "return_token_ids": [0, "true"],
        "return_tokens_as_token_ids": [0, "true"],
        "logprob_token_ids": [1, "x", [-1], ["1"], [0] * 1025],
        "allowed_token_ids": [1, "x", [], [-1], [0] * 10_001],
        "truncate_prompt_tokens": [*NO_NUMBER, 0, -1, 0.5],
        "truncation_side": [1, "middle"],
        "max_tokens": [*NO_NUMBER, 0, -2, 0.5, 1_048_577],
    }
)
CHAT = SHARED | {
    "max_completion_tokens": [*NO_NUMBER, 0, -2, 0.5],
    "messages": [1, "Hi", {}, []],
    "logprobs": [0, 1, "true"],
    "reasoning_effort": [1, [], "<|im_end|>"],
    "reasoning_format": [1, "deepseek-legacy"],
    "include_reasoning": [0, "x"],
    "enable_thinking": [0, "x"],
    "continue_final_message": [0, "x", True],
    "add_generation_prompt": [0, "x", {}],
    "chat_template_kwargs": [1, "x", [], {"tools": 1}, {f"a{i}": 1 for i in range(17)}],
    "top_logprobs": [*NO_NUMBER, -2, 0.5],
    "echo": [0, "true"],
    "tools": [1, {}, ["x"], [{}], [{"type": "web_search"}], [{"type": "function"}], [TOOL] * 2],
    "tool_choice": [1, "any", "required", {"type": "function", "function": {"name": "x"}}],
    "parallel_tool_calls": [1, "x"],
    "functions": [1, {}, [TOOL], [{"name": "a b"}], [{"name": ""}], [{"name": "f", "parameters": []}]],
    "function_call": [1, "required", {"name": "x"}],
}
COMPLETION = SHARED | {
    "prompt": [1, "", [], {}, [""], [[]], ["a", 1], [1, "a"], [True], [-1], [["a"]]],
    "suffix": [1, ["x"]],
    "echo": [0, "x"],
    "logprobs": [*NO_NUMBER, -1, 21, 0.5],
}
NOT_IN_COMPLETIONS = ["tools", "tool_choice", "functions", "function_call", "parallel_tool_calls"]
NESTED: list[tuple[dict[str, Any], str]] = [
    ({"messages": [1]}, "messages[0]"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"tool_choice": {}}, "tool_choice.type"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"function_call": {}}, "function_call.name"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "<|im_end|>", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages[0]"),
    ({"messages": [{"role": "tool", "tool_call_id": "x"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0]"),
    ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].id"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    ({"tools": [TOOL, {"type": "function", "function": {}}]}, "tools[1].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 1}}]}, "tools[0].function.parameters"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
        "tools[0].function.parameters",
    ),
    ({"tools": [TOOL], "functions": [{"name": "g"}]}, "functions"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
        "tool_choice.allowed_tools.tools",
    ),
    ({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": 1}]}, "messages[1].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "x", "name": 1}]}, "messages[0].name"),
    ({"messages": [{"role": "user", "content": "x", "audio": {}}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": "x", "a\r\nb": 1}]}, "messages[0]"),
    ({"reasoning": {"effort": 1}}, "reasoning.effort"),
    ({"reasoning": {"other": "x"}}, "reasoning.other"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"stream": True, "stream_options": {"continuous_usage_stats": 1}}, "stream_options.continuous_usage_stats"),
    ({"stream": True, "stream_options": {"other": 1}}, "stream_options.other"),
    ({"stream_options": {}}, "stream_options"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"logit_bias": {"x": 1}}, "logit_bias.x"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
    ({"response_format": {"type": "text", "schema": {}}}, "response_format"),
    ({"structured_outputs": {}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
    ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
    ({"guided_json": "x"}, "guided_json"),
    ({"guided_json": "[]"}, "guided_json"),
    ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
    ({"response_format": {"type": "json_object"}, "grammar": "x"}, "grammar"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
]
UNSUPPORTED = ["audio", "prediction"]


@pytest.fixture
def api(shared_api: Api) -> Api:
    return shared_api


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(field, value, id=f"{field}={json.dumps(value)[:30]}")
        for field, values in table.items()
        for value in values
    ]


def test_every_field_has_its_cases() -> None:
    ours = set(RequestOptions.model_fields)
    assert set(CHAT) == set(ChatBody.model_fields) - ours
    assert set(COMPLETION) == set(CompletionBody.model_fields) - ours


@pytest.mark.parametrize(("field", "value"), cases(CHAT))
def test_a_wrong_value_in_a_chat_is_refused_by_name(api: Api, field: str, value: Any) -> None:
    answer = chat(api, **{field: value})
    assert answer.status_code == 400
    assert answer.json["error"].keys() == {"message", "type", "param", "code"}
    assert (answer.json["error"]["type"], answer.json["error"]["param"].partition("[")[0]) == (
        "invalid_request_error",
        field,
    )


@pytest.mark.parametrize(("field", "value"), cases(COMPLETION))
def test_a_wrong_value_in_a_completion_is_refused_by_name(api: Api, field: str, value: Any) -> None:
    answer = complete(api, **{field: value})
    assert (answer.status_code, answer.json["error"]["param"].partition("[")[0]) == (400, field)


@pytest.mark.parametrize(("body", "param"), NESTED, ids=[param for _, param in NESTED])
def test_a_wrong_value_further_in_is_named_by_its_path(api: Api, body: dict[str, Any], param: str) -> None:
    answer = chat(api, **body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(api: Api, field: str) -> None:
    for answer in (chat(api, **{field: []}), complete(api, **{field: []})):
        assert (answer.status_code, answer.json["error"]["param"]) == (400, field)
        assert "is not supported" in answer.json["error"]["message"]


@pytest.mark.parametrize("field", NOT_IN_COMPLETIONS)
def test_completions_have_no_tools(api: Api, field: str) -> None:
    answer = complete(api, **{field: []})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, field)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"model": NaN}'])
def test_a_body_that_is_not_a_json_object_is_refused(api: Api, body: bytes) -> None:
    answer = api.client.post("/v1/chat/completions", data=body, content_type="application/json")
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_request")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted({*CHAT, *COMPLETION, *UNSUPPORTED} - {"stream", "model"})
bodies = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), json_values, max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies)
def test_no_body_crashes_the_server(api: Api, body: dict[str, Any]) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        answer = api.client.post(
            path, data=json.dumps({"model": MODEL} | body).encode(), content_type="application/json"
        )
        assert answer.status_code in (200, 400)
