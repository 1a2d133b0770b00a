"""vLLM's routes outside of `/v1`. The scripted worker's tokens are characters."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from api import __version__
from api.openai.chat import ChatBody
from api.schemas.vllm import VllmTokenizeBody
from common.fleet import WorkerState
from common.jobs.prompts import Conversation, Ending, RawText, from_wire, to_wire
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import ABOUT, Play
from tests.unit.api.conftest import StartApi

HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "weather"}}


def test_health_and_version(start_api: StartApi) -> None:
    api = start_api()
    assert (api.client.get("/health").status_code, api.client.get("/health").json) == (200, {"status": "ok"})
    assert api.client.get("/version").json == {"version": __version__}
    api.worker.report = api.worker.report.but(state=WorkerState.LOADING)
    api.worker.beat()
    assert api.client.get("/health").status_code == 503


def test_a_text_becomes_tokens_and_a_text_again(shared_api: Api) -> None:
    tokens = shared_api.client.post("/tokenize", json={"model": "default", "prompt": "Hi"})
    assert tokens.json == {"count": 2, "max_model_len": 2048, "tokens": [72, 105], "token_strs": None}
    assert tokens.headers["X-Model"] == "cuda_lora_out@1"
    assert shared_api.client.post("/detokenize", json={"model": MODEL, "tokens": [72, 105]}).json == {"prompt": "Hi"}
    assert shared_api.client.post("/detokenize", json={"model": MODEL, "tokens": []}).json == {"prompt": ""}


def test_a_chat_and_the_texts_of_its_tokens(shared_api: Api) -> None:
    answer = shared_api.client.post("/tokenize", json={"messages": HI, "return_token_strs": True}).json
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert "<H><i>" in "".join(answer["token_strs"])


def test_facts_about_the_tokenizer(shared_api: Api) -> None:
    assert shared_api.client.get("/tokenizer_info").json == {**ABOUT, "model_max_length": 2048}


def test_the_load_counts_waiting_and_running_generations(start_api: StartApi) -> None:
    found: list[object] = []

    def script(play: Play) -> None:
        found.append(api.client.get("/load").json)
        play.end("ok")

    api = start_api(script)
    assert api.client.get("/load").json == {"server_load": 0}
    api.client.post("/slm/generate", json={"prompt": "Hi"})
    assert found == [{"server_load": 1}]


def test_one_route_for_three(start_api: StartApi) -> None:
    api = start_api(lambda play: play.end("ok"))
    api.worker.serve_embeddings()
    invoke = partial(api.client.post, "/invocations")
    assert invoke(json={"messages": HI}).json["choices"][0]["message"]["content"] == "ok"
    assert invoke(json={"prompt": "Hi", "messages": None}).json["choices"][0]["text"] == "ok"
    assert invoke(json={"input": "Hi"}).json["data"][0]["object"] == "embedding"
    assert invoke(json={"messages": HI, "stream": True}).mimetype == "text/event-stream"
    assert invoke(json={}).json["error"]["param"] == "messages"


def test_the_form_of_the_prompt_reaches_the_worker() -> None:
    bare = VllmTokenizeBody.model_validate({"prompt": "Hi", "add_special_tokens": False}).to_prompt()
    assert from_wire(to_wire(bare)) == bare == RawText("Hi", is_bare=True)
    fields = {"messages": HI, "tools": [TOOL], "add_generation_prompt": False, "add_special_tokens": False}
    of_chat = ChatBody.model_validate({"messages": HI, "tools": [TOOL]}).tool_use.shown
    expected = Conversation(tuple(HI), of_chat, Ending.CLOSED)
    assert VllmTokenizeBody.model_validate(fields).to_prompt() == expected


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {}, "prompt"),
        ("tokenize", {"prompt": "a", "messages": HI}, "prompt"),
        ("tokenize", {"prompt": "a", "add_special_tokens": 0}, "add_special_tokens"),
        ("tokenize", {"prompt": "a", "tools": [TOOL]}, "tools"),
        ("tokenize", {"messages": HI, "tools": [TOOL, TOOL]}, "tools"),
        ("tokenize", {"prompt": "a", "model": "gpt-5"}, "model"),
        ("detokenize", {}, "tokens"),
        ("detokenize", {"tokens": [0xFFFFF]}, "tokens"),
    ],
)
def test_errors_have_openai_s_shape(shared_api: Api, path: str, body: dict[str, Any], param: str) -> None:
    answer = shared_api.client.post(f"/{path}", json=body)
    assert answer.status_code in (400, 404)
    assert (answer.json["error"].keys(), answer.json["error"]["param"]) == ({"message", "type", "param", "code"}, param)
