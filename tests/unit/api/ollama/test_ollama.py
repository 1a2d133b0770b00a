"""Ollama's API: what reaches the worker, and the answers, whole and in lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api.schemas.ollama.options import OllamaOptions
from common.errors import InvalidRequest, PromptTooLong
from common.jobs.prompts import Conversation, Ending, RawText
from common.jobs.sampling import Grammar, GrammarKind
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import MESSAGES, Seen

Json = dict[str, Any]
SAID = [*MESSAGES, {"role": "assistant", "content": "Sure, "}]


def chat(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/api/chat", json={"model": MODEL, "messages": MESSAGES, "stream": False} | body)


def generate(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/api/generate", json={"model": MODEL, "prompt": "Hi", "stream": False} | body)


def lines_of(stream: TestResponse) -> list[Json]:
    assert stream.mimetype == "application/x-ndjson"
    text = stream.get_data(as_text=True)
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_an_answer_in_a_chat(api: Api) -> None:
    answer = chat(api)
    assert answer.json["message"] == {"role": "assistant", "content": "Once upon a time."}
    assert (answer.json["model"], answer.json["done"], answer.json["done_reason"]) == (MODEL, True, "stop")
    assert answer.json["eval_count"] == 3
    durations = [answer.json[f"{part}_duration"] for part in ("total", "load", "prompt_eval", "eval")]
    assert all(isinstance(one, int) and one >= 0 for one in durations)
    assert answer.headers["X-Job-Id"]


def test_a_stream_is_the_default_and_gives_the_same_text(api: Api) -> None:
    *pieces, last = lines_of(api.client.post("/api/chat", json={"model": MODEL, "messages": MESSAGES}))
    assert "".join(one["message"]["content"] for one in pieces) == "Once upon a time."
    assert not any(one["done"] for one in pieces)
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert last["eval_count"] == 3


def test_a_generation_whole_and_streamed(api: Api) -> None:
    whole = generate(api).json
    *pieces, last = lines_of(generate(api, stream=True))
    assert whole["response"] == "".join(one["response"] for one in pieces) == "Once upon a time."
    assert whole.keys() == last.keys()


def test_the_options_reach_the_worker(start_api: StartApi, seen: Seen) -> None:
    options = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.25,
        "min_p": 0.125,
        "repeat_penalty": 1.5,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.75,
        "seed": 3,
        "num_predict": 9,
        "stop": ["x", ""],
        "num_ctx": 2048,
    }
    answer = chat(start_api(seen), options=options, keep_alive="5m")
    sent = seen.params[0].sampling
    assert (sent.temperature, sent.top_k, sent.top_p, sent.min_p) == (0.5, 7, 0.25, 0.125)
    assert (sent.repetition_penalty, sent.presence_penalty, sent.frequency_penalty) == (1.5, 0.5, 0.75)
    assert (sent.seed, sent.max_new_tokens, sent.stop) == (3, 9, ("x",))
    assert answer.headers["X-Ignored-Fields"] == "keep_alive, options.num_ctx"


def test_the_defaults_are_ollama_s() -> None:
    sampling = OllamaOptions().sampling(None)
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.8, 40, 0.9)
    assert (sampling.repetition_penalty, sampling.min_p) == (1.1, 0.0)
    assert sampling.max_new_tokens == OllamaOptions(num_predict=-2).sampling(None).max_new_tokens
    assert OllamaOptions(seed=-1).sampling(None).seed >= 0


@pytest.mark.parametrize(
    ("form", "grammar"),
    [
        ("", None),
        (None, None),
        ("json", Grammar(GrammarKind.JSON_OBJECT)),
        ({"type": "object"}, Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object"}')),
    ],
)
def test_the_format(start_api: StartApi, seen: Seen, form: Any, grammar: Grammar | None) -> None:
    chat(start_api(seen), format=form)
    assert seen.params[0].sampling.grammar == grammar


def test_the_prompts(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    generate(api, system="Be brief")
    generate(api, raw=True)
    chat(api, messages=SAID)
    generate(api, suffix="z")
    system, user = {"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}
    assert seen.params[0].prompt == Conversation((system, user))
    assert seen.params[1].prompt == RawText("Hi")
    assert seen.params[2].prompt == Conversation(tuple(SAID), ending=Ending.CONTINUE)
    assert seen.params[3].prompt == RawText("Hi", "z")


@pytest.mark.parametrize("model", [MODEL, f"{MODEL}:latest", "default", "default:latest", "gpt2", f"{MODEL}@1"])
def test_a_name_with_or_without_the_tag(api: Api, model: str) -> None:
    assert chat(api, model=model).json["model"] == model
    assert api.client.post("/api/show", json={"model": model}).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_nothing_to_answer_is_a_load(api: Api, stream: bool) -> None:
    for answer in (generate(api, prompt="", keep_alive=0, stream=stream), chat(api, messages=[], stream=stream)):
        (found,) = lines_of(answer) if stream else [answer.json]
        assert (found["done"], found["done_reason"]) == (True, "load")
        assert "X-Job-Id" not in answer.headers
    assert generate(api, prompt="", model="gpt-5").status_code == 404


def test_the_models(api: Api) -> None:
    models = api.client.get("/api/tags").json["models"]
    assert models[0]["name"] == "default:latest"
    assert {one["model"] for one in models} == {"default:latest", "cuda_lora_out:latest", "gpt2:latest"}
    assert all(len(one["digest"]) == 64 for one in models)
    assert [one["model"] for one in api.client.get("/api/ps").json["models"]] == ["gpt2:latest"]
    shown = api.client.post("/api/show", json={"model": MODEL, "verbose": True})
    assert (shown.json["details"]["parent_model"], shown.json["capabilities"]) == ("gpt2", ["completion", "tools"])
    assert shown.headers["X-Ignored-Fields"] == "verbose"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"messages": [{"role": "user", "content": "Hi", "images": ["x"]}]}, "messages[0].images"),
        ({"think": 2}, "think"),
        ({"format": "xml"}, "format"),
        ({"options": {"mirostat": 1}}, "options.mirostat"),
        ({"options": {"temprature": 1}}, "options.temprature"),
        ({"logit_bias": {}}, "logit_bias"),
        ({"model": ""}, "model"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(api: Api, body: Json, named: str) -> None:
    answer = chat(api, **body)
    assert (answer.status_code, answer.json.keys()) == (400, {"error"})
    assert named in answer.json["error"]


@pytest.mark.parametrize("field", ["template", "context", "images"])
def test_so_is_that_of_a_generation(api: Api, field: str) -> None:
    value: Any = "x" if field == "template" else [1]
    answer = generate(api, **{field: value})
    assert answer.status_code == 400
    assert field in answer.json["error"]
    assert generate(api, **{field: type(value)()}).status_code == 200


def test_errors_are_ollama_s(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(PromptTooLong("It has 9 tokens.", param="prompt")))
    assert (chat(api, model="gpt-5").status_code, chat(api, model="gpt-5").json.keys()) == (404, {"error"})
    assert chat(api).json == {"error": "It has 9 tokens."}
    assert api.client.get("/api/nothing").json == {"error": "There is nothing at /api/nothing"}


def test_a_failing_stream_ends_with_the_error(start_api: StartApi) -> None:
    def late(play: Play) -> None:
        play.say("a")
        play.fail(InvalidRequest("It cannot be followed.", param="response_format"))

    assert lines_of(chat(start_api(late), stream=True))[-1] == {"error": "It cannot be followed."}
