"""Fields that cannot change the answer are accepted, and named in a header."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from api.openai.chat import ChatBody
from api.openai.responses.body import ResponseBody
from api.schemas.ignored import IgnoredFields, is_ignored
from api.schemas.messages import Message
from common.jobs.prompts import Conversation
from common.settings import ROOT
from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import MESSAGES, Seen, chat, complete

HARMLESS: dict[str, list[Any]] = {
    "user": ["ann"],
    "safety_identifier": ["ann"],
    "store": [True, False],
    "metadata": [{}, {"a": "b"}],
    "service_tier": ["auto", "flex"],
    "prompt_cache_key": ["x"],
    "prompt_cache_retention": ["24h"],
    "verbosity": ["low"],
    "reasoning_effort": ["none", "high"],
    "reasoning": [{}, {"effort": "low"}, {"effort": None, "summary": "auto"}],
    "modalities": [["text"]],
    "include": [[], ["reasoning.encrypted_content"]],
    "truncation": ["disabled"],
    "best_of": [1],
    "cache_prompt": [True, False],
    "id_slot": [-1, 0],
    "timings_per_token": [True],
    "return_progress": [True],
    "reasoning_format": ["auto"],
    "n_probs": [0],
    "mirostat": [0],
    "dynatemp_range": [0, 0.0],
    "xtc_probability": [0, 0.0],
    "dry_multiplier": [0, 0.0],
    "typical_p": [1, 1.0],
    "use_beam_search": [False],
    "include_stop_str_in_output": [False],
    "skip_special_tokens": [True],
    "spaces_between_special_tokens": [True],
    "request_id": ["r-1"],
}
OF_TEMPLATES = {"reasoning", "reasoning_effort", "reasoning_format"}  # have an effect in chats
CASES = [(field, value) for field, values in HARMLESS.items() for value in values]


def test_every_ignored_field_is_tried_here() -> None:
    assert HARMLESS.keys() == IgnoredFields.model_fields.keys()


@pytest.mark.parametrize(("field", "value"), CASES)
def test_a_harmless_field_is_accepted_and_named(shared_api: Api, field: str, value: Any) -> None:
    in_chat, in_completion = chat(shared_api, **{field: value}), complete(shared_api, **{field: value})
    assert (in_completion.status_code, in_completion.headers["X-Ignored-Fields"]) == (200, field)
    expected = None if field in OF_TEMPLATES else field
    if field == "reasoning" and "summary" in value:
        expected = "reasoning.summary"
    assert (in_chat.status_code, in_chat.headers.get("X-Ignored-Fields")) == (200, expected)


@pytest.mark.parametrize(("field", "value"), CASES)
def test_a_response_accepts_it_and_names_it_unless_it_has_an_effect(shared_api: Api, field: str, value: Any) -> None:
    answer = shared_api.client.post("/v1/responses", json={"input": "Hi", field: value})
    named = field if is_ignored(ResponseBody, field) else None
    if field == "reasoning" and "summary" in value:
        named = "reasoning.summary"
    assert (answer.status_code, answer.headers.get("X-Ignored-Fields")) == (200, named)


def test_a_response_uses_what_it_returns() -> None:
    assert {name for name in HARMLESS if not is_ignored(ResponseBody, name)} == {
        *("user", "store", "metadata", "include", "reasoning", "reasoning_effort")
    }


def test_a_stream_names_them_too(shared_api: Api) -> None:
    answer = chat(shared_api, stream=True, user="ann", store=False)
    assert answer.headers["X-Ignored-Fields"] == "store, user"
    answer.close()


def test_a_request_without_them_has_no_such_header(shared_api: Api) -> None:
    assert "X-Ignored-Fields" not in chat(shared_api, temperature=0.5).headers


def test_a_null_is_a_missing_field(shared_api: Api) -> None:
    assert "X-Ignored-Fields" not in chat(shared_api, **dict.fromkeys(HARMLESS)).headers


def test_an_answer_of_any_server_can_be_sent_back(shared_api: Api) -> None:
    earlier = {
        "role": "assistant",
        "content": "Hello",
        "id": "msg_1",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "reasoning_content": "Hm",
        "reasoning": "Hm",
        "reasoning_details": [],
        "thinking_blocks": [],
        "provider_specific_fields": {"a": 1},
        "cache_control": {"type": "ephemeral"},
        "parsed": {"a": 1},
        "metadata": {"a": 1},
        "timestamp": 1700000000.5,
        "created_at": "2026-11-27T15:00:00Z",
    }
    answer = chat(shared_api, messages=[*MESSAGES, earlier, earlier, *MESSAGES])
    assert answer.status_code == 200
    ignored = earlier.keys() - {
        "role",
        "content",
        "refusal",
        "audio",
        "function_call",
        "reasoning",
        "reasoning_content",
    }
    assert answer.headers["X-Ignored-Fields"].split(", ") == sorted(f"messages[].{name}" for name in ignored)


def test_our_own_answers_can_be_sent_back_whole(shared_api: Api) -> None:
    said = chat(shared_api).json["choices"][0]["message"]
    assert chat(shared_api, messages=[*MESSAGES, said, *MESSAGES]).status_code == 200
    response = shared_api.client.post("/v1/responses", json={"input": "Hi"}).json
    again = {"input": [{"role": "user", "content": "Hi"}, *response["output"]]}
    sent_back = ("metadata", "store", "temperature", "text", "top_p", "truncation", "user", "background", "model")
    again |= {name: response[name] for name in sent_back}
    assert shared_api.client.post("/v1/responses", json=again).status_code == 200


def test_a_speaker_s_name_reaches_the_template(start_api: StartApi, seen: Seen) -> None:
    chat(start_api(seen), messages=[{"role": "user", "content": "Hi", "name": "ann"}])
    assert seen.params[0].prompt == Conversation(({"role": "user", "content": "Hi", "name": "ann"},))


def test_an_empty_stop_string_stops_nothing(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    chat(api, stop="")
    chat(api, stop=["", "x"])
    assert [params.sampling.stop for params in seen.params] == [(), ("x",)]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_minus_one_is_no_limit(start_api: StartApi, seen: Seen, field: str) -> None:
    api = start_api(seen)
    chat(api, **{field: -1})
    chat(api)
    assert seen.params[0].sampling.max_new_tokens == seen.params[1].sampling.max_new_tokens
    if field == "max_tokens":
        complete(api, max_tokens=-1)
        assert seen.params[2].sampling.max_new_tokens == seen.params[1].sampling.max_new_tokens


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
def test_without_a_model_the_default_answers(shared_api: Api, path: str) -> None:
    body = (
        {"messages": MESSAGES} if path == "chat/completions" else {"prompt" if path == "completions" else "input": "Hi"}
    )
    answer = shared_api.client.post(f"/v1/{path}", json=body)
    assert (answer.status_code, answer.json["model"]) == (200, "default")
    assert answer.headers["X-Model"] == "cuda_lora_out@1"


def test_a_job_for_the_default_waits_for_the_first_model(start_api: StartApi, redis: Redis) -> None:
    api = start_api()
    redis.delete("slm:bases", "slm:aliases")
    assert chat(api, model="default").status_code == 200


def test_every_ignored_field_is_documented() -> None:
    text = (ROOT / "docs" / "openai.md").read_text("utf-8")
    of_messages = [name for name in Message.model_fields if is_ignored(Message, name)]
    missing = [name for name in (*IgnoredFields.model_fields, *of_messages) if f"`{name}" not in text]
    assert missing == []
    assert ChatBody.model_fields.keys() >= IgnoredFields.model_fields.keys()


def test_a_clients_own_fields_of_a_message_are_named(shared_api: Api) -> None:
    messages = [{"role": "user", "content": "Hi", "extra_field": "0", "ui": {"color": "red"}}]
    answer = chat(shared_api, messages=messages)
    assert answer.status_code == 200
    assert answer.headers["X-Ignored-Fields"] == "messages[].extra_field, messages[].ui"


def test_a_header_with_many_names_stays_short(shared_api: Api) -> None:
    own = {f"field_{number:04}": 1 for number in range(2000)}
    names = chat(shared_api, messages=[{"role": "user", "content": "Hi"} | own]).headers["X-Ignored-Fields"]
    assert len(names) < 2100
    assert names.startswith("messages[].field_0000, ")
    assert names.endswith(", ...")


def test_a_role_of_its_own_reaches_the_template(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    assert chat(api, messages=[{"role": "my-critic", "content": "Hi"}]).status_code == 200
    (params,) = seen.params
    assert isinstance(params.prompt, Conversation)
    assert params.prompt.messages == ({"role": "my-critic", "content": "Hi"},)
