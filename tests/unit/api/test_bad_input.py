"""Wrong input is refused with 400 and a message that names the field and says what would be right."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.openai.batches.routes import BatchBody
from api.openai.chat import ChatBody
from api.openai.completions import CompletionBody
from api.openai.responses.body import ResponseBody
from api.schemas.generation import GenerateBody
from api.schemas.shown import shown
from api.schemas.strict import Strict
from api.schemas.tokens import DetokenizeBody, TokenizeBody
from tests.api_in_process import Api


@pytest.fixture
def api(shared_api: Api) -> Api:
    return shared_api


def nested(levels: int) -> dict[str, Any]:
    """A JSON object of that many levels."""
    found: dict[str, Any] = {}
    for _ in range(levels - 1):
        found = {"items": found}
    return found


JSON = "application/json"
NUMBERS = [0, -1, 1, 2**70, 0.5, -0.5, 1e300]
WRONG_EVERYWHERE: list[Any] = [None, {}, {"a": 1}, [[]], [None], {"\ud800": 1}, [{"a": "\udfff"}]]
NEITHER_TEXT_NOR_LIST = [True, False, *NUMBERS]
NO_NUMBER = [True, False, "", "1", [], [1]]
WRONG: dict[str, list[Any]] = {
    "prompt": [*NEITHER_TEXT_NOR_LIST, [], ["a"], "", " ", "\n\t ", "\ud800", "ok \udfff"],
    "max_new_tokens": [*NO_NUMBER, 0, -1, 0.0, 0.5, 1_048_577, 2**70, 1e300],
    "temperature": [*NO_NUMBER, -0.1, -1, 5.1, 6, 2**70, 1e300],
    "do_sample": [0, 1, "true", "", [], 0.5],
    "top_p": [*NO_NUMBER, 0, 0.0, -0.5, 1.1, 2],
    "top_k": [*NO_NUMBER, -1, 0.5, -1.0, 2**70],
    "repetition_penalty": [*NO_NUMBER, 0, 0.0, -1, 101, 1e300],
    "stop": [*NEITHER_TEXT_NOR_LIST, "", [""], ["a", ""], ["a", 1], ["a"] * 9, "\ud800", ["\ud800"]],
    "seed": [*NO_NUMBER, -1, 0.5, -1.0, 2**63, 2.0**62, 2.0**63],
    "min_new_tokens": [*NO_NUMBER, -1, 101.0, 0.5, 101, 2**70],
    "min_p": [*NO_NUMBER, -0.1, 1.1, 2**70],
    "presence_penalty": [*NO_NUMBER, -2.1, 2.1, 2**70],
    "frequency_penalty": [*NO_NUMBER, -2.1, 2.1, 2**70],
    "logit_bias": [
        *[True, "", 1, [], [1]],
        *[{key: 1} for key in ("", "a", "-1", "1.0", " 1", "01", "+1", "1\n", "٣", "9" * 10)],
        *[{"1": value} for value in (None, True, "1", [], 100.1, -101, 1e300)],
        {str(token): 1 for token in range(1025)},
    ],
    "logprobs": [*NO_NUMBER, -1, 21, 21.0, 0.5, 2**70],
    "stop_token_ids": [True, "", 1, "1", [True], ["1"], [0.5], [-1], [None], [1, -1], [1] * 65],
    "ignore_eos": [0, 1, "true", "", [], 0.5],
    "response_format": [
        *[True, 1, "json_object", [], {"type": "xml"}, {"type": 1}, {"type": "text", "more": 1}],
        *[{"type": "json_schema"}, {"type": "json_object", "json_schema": {"schema": {}}}],
        *[{"type": "json_schema", "json_schema": one} for one in ({}, [], {"schema": []}, {"schema": True})],
        {"type": "json_schema", "json_schema": {"schema": {}, "name": "a b"}},
        {"type": "json_schema", "json_schema": {"schema": {}, "strict": 1}},
        {"type": "json_schema", "json_schema": {"schema": {"enum": ["x" * 65_536]}}},
        {"type": "json_schema", "json_schema": {"schema": nested(101)}},
        {"type": "json_schema", "json_schema": {"schema": nested(190)}},
    ],
    "regex": [*NEITHER_TEXT_NOR_LIST, [], ["a"], "", "\ud800", "x" * 65_537],
    "choice": [*NEITHER_TEXT_NOR_LIST, "", "a", [], [""], ["a", 1], ["a"] * 257, ["\ud800"], ["x" * 65_536]],
    "priority": [*NEITHER_TEXT_NOR_LIST, [], ["bulk"], "", "Bulk", "high"],
    "ttl": [*NO_NUMBER, 0, 0.0, -1, 86_400.5, 1e300],
    "webhook_url": [
        *NEITHER_TEXT_NOR_LIST,
        [],
        *["", " ", "x", "example.org", "//example.org", "ftp://example.org", "file:///etc/passwd", "javascript:1"],
        *["http://", "http:///x", "http://a b.org", "http://a\nb.org", "http://é.org", "http://u:p@a.org", "http://@a"],
        *["http://a..b", "http://a.org:0", "http://a.org:99999", "http://a.org:x", "http://[::1", "http://a\\@b.org"],
        "http://a.org/" + "x" * 2048,
    ],
    "on_disconnect": [*NEITHER_TEXT_NOR_LIST, [], ["cancel"], "", "Cancel", "stop"],
    "conversation": [*NEITHER_TEXT_NOR_LIST, [], "", "conv_1", {"id": 7}, {"parent_id": None}],
    "timeout": [*NO_NUMBER, 0, 0.0, -1, 86_400.5, 1e300],
    "async": [0, 1, "true", "", [], 0.5],
    "model": [*NEITHER_TEXT_NOR_LIST, [], ["gpt2"], "", "\ud800", "x" * 201],
    "adapter": [*NEITHER_TEXT_NOR_LIST, [], ["gpt2"], "", "\ud800", "x" * 201],
}
RIGHT: dict[str, list[Any]] = {
    "prompt": ["x", " x ", "x" * 10_000, "\x00", "漢字"],
    "max_new_tokens": [1, 10.0, 1_048_576],
    "temperature": [0, 0.0, 5, 5.0, 1, 1e-300],
    "do_sample": [True, False],
    "top_p": [1, 1.0, 1e-9],
    "top_k": [0, 1.0, 1_000_000],
    "repetition_penalty": [1, 0.01, 100],
    "stop": ["END", [], ["a"] * 8, "\n"],
    "seed": [0, 2**63 - 1, 2.0**53],
    "min_new_tokens": [0, 1.0, 100],
    "min_p": [0, 1, 0.05],
    "presence_penalty": [-2, 2, 0.0],
    "frequency_penalty": [-2, 2, 0.0],
    "logit_bias": [{}, {"0": -100}, {"50256": 100.0, "1": 0.5}, {str(token): 1 for token in range(1024)}],
    "logprobs": [0, 1.0, 20],
    "stop_token_ids": [[], [0, 50256], [1.0], [1] * 64],
    "ignore_eos": [True, False],
    "response_format": [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"schema": {}}},
        {
            "type": "json_schema",
            "json_schema": {"schema": nested(100), "name": "a-B_1", "strict": True, "description": None},
        },
    ],
    "regex": ["a", "(", "x" * 65_536],
    "choice": [["a"], ["yes", "no"], ["x"] * 256, ["x" * 65_532], [" "]],
    "priority": ["interactive", "bulk"],
    "ttl": [1, 86_400, 0.5],
    "webhook_url": [
        "http://example.org",
        "HTTPS://Example.ORG:8443/a/b?c=d#e",
        "https://8.8.8.8/",
        "http://[2606:4700::1]/",
    ],
    "on_disconnect": ["cancel", "continue"],
    "conversation": [],  # it must exist: see test_conversations.py
    "timeout": [1, 86_400, 0.5],
    "async": [False],
    "model": ["gpt2", "cuda_lora_out", "cuda_lora_out@1", "default"],
    "adapter": ["gpt2", "cuda_lora_out", "cuda_lora_out@1", "default"],
}
POST_PATHS = ["/slm/generate", "/slm/stream", "/slm/load", "/slm/unload"]


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(field, value, id=f"{field}={json.dumps(value)[:30]}")
        for field, values in table.items()
        for value in values
    ]


def wrong_values() -> dict[str, list[Any]]:
    """The cases of every field, and values that are wrong in all fields that do not accept them."""
    return {field: [one for one in WRONG_EVERYWHERE if one not in RIGHT[field]] + WRONG[field] for field in WRONG}


def test_every_field_has_its_cases() -> None:
    fields = {field.alias or name for name, field in GenerateBody.model_fields.items()}
    assert set(WRONG) == set(RIGHT) == fields


@pytest.mark.parametrize(("field", "value"), cases(wrong_values()))
def test_a_wrong_value_is_refused_by_the_name_of_its_field(api: Api, field: str, value: Any) -> None:
    for path in ("/slm/generate", "/slm/stream"):
        answer = api.client.post(path, json={"prompt": "Hi"} | {field: value})
        assert answer.status_code == 400
        assert (answer.json["success"], answer.json["code"]) == (False, "invalid_request")
        assert answer.json["param"] == field
        assert answer.json["error"].startswith(f"{field} must be ")
        assert "; got " in answer.json["error"]
    assert api.client.get("/slm/jobs").json["jobs"] == []


@pytest.mark.parametrize(("field", "value"), cases(RIGHT))
def test_a_value_at_the_edge_is_accepted(api: Api, field: str, value: Any) -> None:
    answer = api.generate(**{field: value})
    assert answer.status_code == 200, answer.json


def test_the_message_says_what_would_be_right_and_what_was_sent(api: Api) -> None:
    assert api.generate(temperature="hot").json["error"] == "temperature must be a number from 0 to 5; got 'hot'"
    assert api.generate(do_sample=None).json["error"] == "do_sample must be true or false; got null"
    assert api.generate(logit_bias={"x": 1}).json["error"] == (
        'logit_bias must be an object of at most 1024 token ids, each with a number from -100 to 100; got {"x": 1}'
    )


def test_a_number_that_is_not_json_is_refused_in_a_schema_too(api: Api) -> None:
    schema = b'{"type": "json_schema", "json_schema": {"schema": {"const": 1e999}}}'

    answer = api.client.post(
        "/slm/generate", data=b'{"prompt": "a", "response_format": ' + schema + b"}", content_type=JSON
    )

    assert (answer.status_code, answer.json["param"]) == (400, "response_format")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_object"}, "regex": "a"}, "regex"),
        ({"response_format": {"type": "json_object"}, "choice": ["a"]}, "choice"),
        ({"regex": "a", "choice": ["a"]}, "choice"),
    ],
)
def test_an_answer_has_one_form_at_most(api: Api, fields: dict[str, Any], param: str) -> None:
    answer = api.generate(**fields)

    assert (answer.status_code, answer.json["param"]) == (400, param)
    assert "must not be used together with" in answer.json["error"]


def test_the_minimum_length_is_limited_by_the_maximum(api: Api) -> None:
    refused = api.generate(max_new_tokens=5, min_new_tokens=6)

    assert (refused.status_code, refused.json["param"]) == (400, "min_new_tokens")
    assert refused.json["error"] == "min_new_tokens must be an integer from 0 to max_new_tokens; got 6"
    assert api.generate(max_new_tokens=0, min_new_tokens=6).json["param"] == "max_new_tokens"
    assert api.generate(max_new_tokens=6, min_new_tokens=6).status_code == 200


def test_a_long_value_is_not_repeated_in_full(api: Api) -> None:
    assert len(api.generate(temperature="x" * 10_000).json["error"]) < 200


@pytest.mark.parametrize("path", ["/slm/generate", "/slm/stream"])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"temperature": 1}'])
def test_a_missing_prompt_is_named(api: Api, path: str, body: bytes) -> None:
    answer = api.client.post(path, data=body, content_type=JSON)
    assert (answer.status_code, answer.json["param"]) == (400, "prompt")
    assert answer.json["error"] == "prompt must be a non-blank string of valid Unicode; got nothing"


@pytest.mark.parametrize("name", ["temprature", "run_async", "", "\ud800", "x" * 5000, "Prompt"])
@pytest.mark.parametrize("path", POST_PATHS)
def test_an_unknown_field_is_named(api: Api, path: str, name: str) -> None:
    body: dict[str, Any] = {} if path.endswith("load") else {"prompt": "Hi"}
    first = "adapter" if body else "async"
    answer = api.client.post(path, json=body | {name: 1})
    assert answer.status_code == 400
    assert f"is not a field; known: {first}" in answer.json["error"]
    assert len(answer.json["error"]) < 500
    answer.get_data(as_text=True).encode("ascii")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"prompt": "a",}',
        b"{'prompt': 'a'}",
        b'{"prompt": "a"} x',
        b'{"prompt": "\xff"}',
        b"\xff\xfe{\x00}\x00",
        b"\x1f\x8b\x08\x00",
        b'{"prompt": "a\nb"}',
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": -Infinity}',
        b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"prompt": ' + b"[" * 200 + b"]" * 200 + b"}",
        *(b'{"x": ' + b"[" * levels + b"]" * levels + b"}" for levels in range(890, 1000, 10)),
        b"[]",
        b"null",
        b"1",
        b'"prompt"',
    ],
    ids=lambda body: repr(body[:20]),
)
@pytest.mark.parametrize("path", POST_PATHS)
def test_a_body_that_is_not_a_json_object_is_refused(api: Api, path: str, body: bytes) -> None:
    answer = api.client.post(path, data=body, content_type=JSON)
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert answer.json["error"].startswith("The body ")


def test_a_number_beyond_floats_is_out_of_range(api: Api) -> None:
    answer = api.client.post("/slm/generate", data=b'{"prompt": "a", "temperature": 1e999}', content_type=JSON)
    assert (answer.status_code, answer.json["param"]) == (400, "temperature")


@pytest.mark.parametrize("path", POST_PATHS)
def test_a_huge_body_is_413(api: Api, path: str) -> None:
    answer = api.client.post(path, json={"prompt": "x" * 1_048_576})
    assert (answer.status_code, answer.json["code"]) == (413, "body_too_large")
    assert "1048576 bytes" in answer.json["error"]


MANY = 10_000


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        (GenerateBody, {"prompt": "Hi", "stop": [1] * MANY}),
        (GenerateBody, {"prompt": "Hi", "stop_token_ids": [-1] * MANY}),
        (GenerateBody, {"prompt": "Hi", "choice": [1] * MANY}),
        (GenerateBody, {"prompt": "Hi", "logit_bias": dict.fromkeys(map(str, range(MANY)), "x")}),
        (CompletionBody, {"model": "gpt2", "prompt": [[]] * MANY}),
        (CompletionBody, {"model": "gpt2", "prompt": [["a"]] * MANY}),
        (CompletionBody, {"model": "gpt2", "prompt": "Hi", "logit_bias": dict.fromkeys(map(str, range(MANY)), "x")}),
        (ChatBody, {"model": "gpt2", "messages": [1] * MANY}),
        (ResponseBody, {"model": "gpt2", "input": [1] * MANY}),
        (ResponseBody, {"model": "gpt2", "input": "Hi", "metadata": dict.fromkeys(map(str, range(MANY)), 1)}),
        (TokenizeBody, {"messages": [1] * MANY}),
        (DetokenizeBody, {"ids": [-1] * MANY}),
        (BatchBody, {"metadata": dict.fromkeys(map(str, range(MANY)), 1)}),
    ],
)
def test_only_the_reported_wrong_values_are_looked_at(schema: type[Strict], fields: dict[str, Any]) -> None:
    """A list of half a million of them once kept the API busy for seconds."""
    with pytest.raises(ValidationError) as refused:
        schema.model_validate(fields)
    assert refused.value.error_count() < 10


def test_only_the_beginning_of_a_large_value_is_shown() -> None:
    assert shown([[]] * MANY) == "[" + "[], " * 14 + "[],..."
    assert shown("x" * MANY) == "'" + "x" * 59 + "..."
    assert shown({"a": 1.5}) == '{"a": 1.5}'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
bodies = st.dictionaries(st.sampled_from(sorted(WRONG)) | st.text(max_size=5), json_values, max_size=6)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies)
def test_no_body_crashes_the_server(api: Api, body: dict[str, Any]) -> None:
    answer = api.client.post("/slm/generate", data=json.dumps(body).encode(), content_type=JSON)
    assert answer.status_code in (200, 202, 400)
    assert answer.json["success"] is (answer.status_code < 400)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=64))
def test_no_bytes_crash_the_server(api: Api, body: bytes) -> None:
    for path in POST_PATHS:
        assert api.client.post(path, data=body, content_type=JSON).status_code in (200, 400)
