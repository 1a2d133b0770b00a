"""vLLM's fields of sampling and of prompts in completions and chat completions."""

from __future__ import annotations

from typing import Any

import pytest

from common.jobs.prompts import Cut
from common.jobs.sampling import ALL_TOKENS
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import Seen, chat, complete, data_of

TOOL = {"type": "function", "function": {"name": "f"}}
BEGUN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well, "}]


def test_the_worker_gets_the_tokens(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    tokens = {"logprob_token_ids": [5, 6], "allowed_token_ids": [7]}
    assert chat(api, logprobs=True, **tokens).status_code == 200
    assert complete(api, logprobs=0, **tokens).status_code == 200
    for params in seen.params:
        assert (params.sampling.logprob_token_ids, params.sampling.allowed_token_ids) == ((5, 6), (7,))


def test_a_prompt_is_cut_on_either_side(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    complete(api, truncate_prompt_tokens=4)
    chat(api, truncate_prompt_tokens=3, truncation_side="right")
    complete(api, truncation_side="left")
    assert [params.cut for params in seen.params] == [Cut(4), Cut(3, keeps_begin=True), None]


@pytest.mark.parametrize(
    ("ask", "body", "param"),
    [
        pytest.param(chat, {"logprob_token_ids": [1]}, "logprob_token_ids", id="chat without logprobs"),
        pytest.param(complete, {"logprob_token_ids": [1]}, "logprob_token_ids", id="completion without logprobs"),
        pytest.param(chat, {"allowed_token_ids": []}, "allowed_token_ids", id="no token allowed"),
        pytest.param(chat, {"allowed_token_ids": [1], "guided_regex": "a"}, "allowed_token_ids", id="a form"),
        pytest.param(chat, {"allowed_token_ids": [1], "tools": [TOOL]}, "allowed_token_ids", id="tools"),
        pytest.param(chat, {"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", id="nothing left"),
        pytest.param(chat, {"truncation_side": "middle"}, "truncation_side", id="side"),
        pytest.param(chat, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", id="chat, over the limit"),
        pytest.param(complete, {"logprobs": 21}, "logprobs", id="completion, over the limit"),
        pytest.param(complete, {"logprobs": -1}, "logprobs", id="all tokens"),
        pytest.param(complete, {"prompt_logprobs": 21}, "prompt_logprobs", id="prompt, over the limit"),
    ],
)
def test_wrong_fields_are_named(start_api: StartApi, seen: Seen, ask: Any, body: dict[str, Any], param: str) -> None:
    answer = ask(start_api(seen), **body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)
    assert not seen.params


def test_the_server_can_allow_more_log_probabilities(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen, max_logprobs=50)
    assert complete(api, logprobs=50).status_code == 200
    assert complete(api, logprobs=51).status_code == 400
    assert "SLM_MAX_LOGPROBS" in complete(api, logprobs=51).json["error"]["message"]


def test_the_server_can_allow_those_of_all_tokens(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen, max_logprobs=-1)
    assert chat(api, logprobs=True, top_logprobs=-1, max_tokens=1).status_code == 200
    assert seen.params[0].sampling.logprobs == ALL_TOKENS


def test_a_chat_can_echo_the_message_that_it_continues(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    whole = chat(api, messages=BEGUN, continue_final_message=True, echo=True).json
    assert whole["choices"][0]["message"]["content"] == "Well, ok"
    chunks = data_of(chat(api, messages=BEGUN, continue_final_message=True, echo=True, stream=True))
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks) == "Well, ok"
    assert chat(api, messages=BEGUN, continue_final_message=True).json["choices"][0]["message"]["content"] == "ok"


def test_nothing_is_echoed_of_another_speaker(start_api: StartApi, seen: Seen) -> None:
    assert chat(start_api(seen), echo=True).json["choices"][0]["message"]["content"] == "ok"
