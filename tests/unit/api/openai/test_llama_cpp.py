"""llama.cpp's own routes. The scripted worker's tokens are characters."""

from __future__ import annotations

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common.jobs.logprobs import ScoredToken, TokenLogprobs
from common.jobs.prompts import RawText, TokenIds
from common.jobs.sampling import GrammarKind
from tests.api_in_process import Api
from tests.scripted_worker import ABOUT, Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import Seen

Json = dict[str, Any]
HI = [{"role": "user", "content": "Hi"}]


def complete(api: Api, path: str = "/completion", **body: Any) -> TestResponse:
    return api.client.post(path, json={"prompt": "Hi"} | body)


def frames(answer: TestResponse) -> list[Json]:
    texts = answer.get_data(as_text=True).removesuffix("\n\n").split("\n\n")
    return [json.loads(one.removeprefix("data: ")) for one in texts if not one.startswith(":")]


def test_an_answer_has_llama_cpps_fields(start_api: StartApi) -> None:
    api = start_api(lambda play: play.end("one\ntwo", cached_tokens=1))
    answer = complete(api, n_predict=8, seed=5, return_tokens=True).json
    assert (answer["content"], answer["stop"], answer["stop_type"]) == ("one\ntwo", True, "eos")
    assert answer["tokens"]
    assert (answer["has_new_line"], answer["truncated"], answer["index"]) == (True, False, 0)
    assert (answer["generation_settings"]["seed"], answer["generation_settings"]["n_predict"]) == (5, 8)
    timings = answer["timings"]
    assert timings["cache_n"] == 1
    assert timings["prompt_n"] + 1 == answer["tokens_evaluated"]
    assert timings["predicted_n"] == answer["tokens_predicted"]
    assert complete(api).json["tokens"] == []


def test_its_defaults_and_names_reach_the_worker(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    complete(api)
    complete(api, seed=3, n_predict=0, repeat_penalty=1.5, n_probs=4, stop="x", ignore_eos=True, top_k=-1)
    first, second = (params.sampling for params in seen.params)
    assert (first.temperature, first.top_k, first.top_p, first.min_p) == (0.8, 40, 0.95, 0.05)
    assert (second.seed, second.max_new_tokens, second.repetition_penalty) == (3, 0, 1.5)
    assert (second.logprobs, second.stop, second.ignore_eos, second.top_k) == (4, ("x",), True, 0)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        pytest.param("a", [RawText("a")], id="text"),
        pytest.param([5, 6], [TokenIds((5, 6))], id="tokens"),
        pytest.param({"prompt_string": "a"}, [RawText("a")], id="object"),
        pytest.param(["a", [5], {"prompt_string": "b"}], [RawText("a"), TokenIds((5,)), RawText("b")], id="several"),
    ],
)
def test_prompts_of_each_form(start_api: StartApi, seen: Seen, prompt: Any, expected: list[Any]) -> None:
    answer = complete(start_api(seen), prompt=prompt).json
    assert sorted(map(str, (params.prompt for params in seen.params))) == sorted(map(str, expected))
    assert [one["index"] for one in answer] == [0, 1, 2] if len(expected) > 1 else answer["index"] == 0


@pytest.mark.parametrize(
    "bias",
    [
        pytest.param([[5, -2], [" a", 1.5], [7, False]], id="pairs"),
        pytest.param({"5": -2, " a": 1.5, "7": False}, id="object"),
    ],
)
def test_biases_of_tokens_and_of_texts(start_api: StartApi, seen: Seen, bias: Any) -> None:
    assert complete(start_api(seen), logit_bias=bias).status_code == 200
    (params,) = seen.params
    assert params.sampling.logit_bias == {5: -2.0, 7: -1e9}
    assert params.text_bias == {" a": 1.5}


def test_only_the_key_of_an_object_can_be_a_token_id_in_a_text(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    complete(api, logit_bias=[["7", 1]])
    complete(api, logit_bias={"9" * 5000: 1})
    assert [params.sampling.logit_bias for params in seen.params] == [{}, {}]
    assert [params.text_bias for params in seen.params] == [{"7": 1.0}, {"9" * 5000: 1.0}]


def test_a_grammar_or_a_schema(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    complete(api, grammar='root ::= "a"')
    complete(api, json_schema={"type": "object"})
    assert [params.sampling.grammar and params.sampling.grammar.kind for params in seen.params] == [
        GrammarKind.GBNF,
        GrammarKind.JSON_SCHEMA,
    ]


def test_a_stream_has_parts_and_an_end(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say("one ", "two ")
        play.end("three")

    answer = complete(start_api(script), stream=True, n_predict=3)
    *parts, end = frames(answer)
    assert "".join(one["content"] for one in parts) == "one two three"
    assert not any(one["stop"] for one in parts)
    assert all(one["tokens"] for one in parts)
    assert (end["stop"], end["content"], end["timings"]["predicted_n"]) == (True, "", 3)


def test_each_token_can_have_alternatives(start_api: StartApi) -> None:
    scored = [TokenLogprobs(ScoredToken(1, b"a", -0.5), (ScoredToken(2, b"b", -1.5),))]
    answer = complete(start_api(lambda play: play.end("a", logprobs=scored)), n_probs=1).json
    (token,) = answer["completion_probabilities"]
    other = {"id": 2, "token": "b", "bytes": [98], "logprob": -1.5}
    assert token == {"id": 1, "token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": [other]}


def test_only_some_fields(start_api: StartApi) -> None:
    api = start_api(lambda play: play.end("ok"))
    wanted = ["content", "generation_settings/n_predict", "nothing"]
    answer = complete(api, n_predict=8, response_fields=wanted).json
    assert answer == {"content": "ok", "generation_settings/n_predict": 8}


def test_an_infill_is_a_text_with_a_suffix(start_api: StartApi, seen: Seen) -> None:
    api, extra = start_api(seen), [{"filename": "a.py", "text": "x = 1"}]
    fields = {"input_prefix": "def f", "input_suffix": "return", "prompt": "():", "input_extra": extra}
    assert api.client.post("/infill", json=fields).json["content"] == "ok"
    assert seen.params[0].prompt == RawText("\n\n--- snippet ---\n\nx = 1def f():", suffix="return")
    assert api.client.post("/infill", json={"input_prefix": "a"}).json["error"]["param"] == "input_suffix"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"n_predict": -3}, "n_predict"),
        ({"n_probs": 21}, "n_probs"),
        ({"grammar": "root ::= 1", "json_schema": {}}, "json_schema"),
        ({"logit_bias": [["", 1]]}, "logit_bias"),
        ({"logit_bias": [[5, "x"]]}, "logit_bias"),
        ({"logit_bias": [[True, 1]]}, "logit_bias"),
        ({"logit_bias": [[5, 10**400]]}, "logit_bias"),
        ({"logit_bias": [[5, 1e308]]}, "logit_bias"),
        ({"logit_bias": [[-5, 1]]}, "logit_bias"),
        ({"logit_bias": {str(2**31): 1}}, "logit_bias"),
        ({"mirostat": 2}, "mirostat"),
        ({"post_sampling_probs": True}, "post_sampling_probs"),
    ],
    ids=[
        "empty",
        "none",
        "n_predict",
        "n_probs",
        "forms",
        "text",
        "value",
        "token",
        "no float",
        "huge",
        "negative token",
        "no token",
        "mirostat",
        "unknown",
    ],
)
def test_wrong_fields_are_named(shared_api: Api, body: Json, param: str) -> None:
    answer = complete(shared_api, **body)
    assert (answer.status_code, answer.json["error"]["param"].partition("[")[0]) == (400, param)


def test_settings_of_what_is_off_are_named_in_a_header(shared_api: Api) -> None:
    answer = complete(shared_api, samplers=["top_k"], mirostat_tau=5.0, cache_prompt=False, timings_per_token=True)
    assert answer.status_code == 200
    assert answer.headers["X-Ignored-Fields"] == "cache_prompt, mirostat_tau, samplers, timings_per_token"


@pytest.mark.parametrize("path", ["/apply-template", "/v1/chat/completions/input_tokens"])
def test_errors_about_a_chat_name_its_messages(start_api: StartApi, path: str) -> None:
    api = start_api(max_prompt_chars=1)
    assert api.client.post(path, json={"messages": HI}).json["error"]["param"] == "messages"


def test_props(shared_api: Api) -> None:
    props = shared_api.client.get("/props").json
    assert (props["chat_template"], props["eos_token"]) == (ABOUT["chat_template"], "</s>")
    assert (props["total_slots"], props["default_generation_settings"]["n_ctx"]) == (2, 2048)
    assert props["default_generation_settings"]["params"]["temperature"] == 0.8


def test_slots_show_how_many_generations_run(start_api: StartApi) -> None:
    api = start_api()
    api.worker.report = api.worker.report.but(running=1)
    api.worker.beat()
    assert [one["is_processing"] for one in api.client.get("/slots").json] == [True, False]


def test_a_chat_as_the_model_sees_it(shared_api: Api) -> None:
    prompt = shared_api.client.post("/apply-template", json={"messages": HI, "max_tokens": 5}).json["prompt"]
    assert "Hi" in prompt
    for path in ("/v1/chat/completions/input_tokens", "/chat/completions/input_tokens"):
        count = shared_api.client.post(path, json={"messages": HI}).json["input_tokens"]
        assert count == len(prompt)


def test_tokens_in_llama_cpps_form(shared_api: Api) -> None:
    post = shared_api.client.post
    assert post("/tokenize", json={"content": "Hi"}).json == {"tokens": [72, 105]}
    pieces = post("/tokenize", json={"content": "Hi", "with_pieces": True}).json["tokens"]
    assert pieces == [{"id": 72, "piece": "H"}, {"id": 105, "piece": "i"}]
    assert post("/detokenize", json={"tokens": [72, 105]}).json["content"] == "Hi"
