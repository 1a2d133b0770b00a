"""Log probabilities, in the shapes of both endpoints, whole and in chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common.jobs.logprobs import ScoredToken, TokenLogprobs
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import chat, complete, data_of, frames_of

HI = TokenLogprobs(ScoredToken(1, b"Hi", -0.5), (ScoredToken(1, b"Hi", -0.5), ScoredToken(2, b"Ho", -1.5)))
HALF = TokenLogprobs(ScoredToken(3, b"\xc3", -1.0), (ScoredToken(4, b"!", -0.25),))
OTHER_HALF = TokenLogprobs(ScoredToken(5, b"\xa9", -2.0))
END = TokenLogprobs(ScoredToken(0, b"", -3.0))


def script(play: Play) -> None:
    assert play.params.sampling.logprobs is not None
    play.tell("Hi", HI)
    play.tell("é", HALF, OTHER_HALF)
    play.end("", logprobs=[END])


@pytest.fixture
def scored_api(start_api: StartApi) -> Api:
    return start_api(script)


def test_a_chat_returns_each_token_with_its_bytes(scored_api: Api) -> None:
    scored = chat(scored_api, logprobs=True, top_logprobs=2).json["choices"][0]["logprobs"]
    assert scored["refusal"] is None
    assert scored["content"][0] == {
        "token": "Hi",
        "logprob": -0.5,
        "bytes": [72, 105],
        "top_logprobs": [
            {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
            {"token": "Ho", "logprob": -1.5, "bytes": [72, 111]},
        ],
    }
    assert [one["bytes"] for one in scored["content"]] == [[72, 105], [0xC3], [0xA9], []]


def test_the_chunks_of_a_chat_have_the_same_log_probabilities_as_the_whole(scored_api: Api) -> None:
    whole = chat(scored_api, logprobs=True).json["choices"][0]["logprobs"]["content"]
    choices = [chunk["choices"][0] for chunk in data_of(chat(scored_api, logprobs=True, stream=True))]
    assert [one for choice in choices if choice["logprobs"] for one in choice["logprobs"]["content"]] == whole
    assert choices[0]["logprobs"] is choices[-1]["logprobs"] is None


def test_a_completion_returns_its_tokens_in_parallel_lists(scored_api: Api) -> None:
    assert complete(scored_api, logprobs=2).json["choices"][0]["logprobs"] == {
        "tokens": ["Hi", "\ufffd", "\ufffd", ""],
        "token_logprobs": [-0.5, -1.0, -2.0, -3.0],
        "top_logprobs": [{"Hi": -0.5, "Ho": -1.5}, {"\ufffd": -1.0, "!": -0.25}, {"\ufffd": -2.0}, {"": -3.0}],
        "text_offset": [0, 2, 2, 3],
    }


def test_the_offsets_of_a_stream_continue_from_chunk_to_chunk(scored_api: Api) -> None:
    chunks = data_of(complete(scored_api, logprobs=0, stream=True))
    offsets: list[int] = []
    for chunk in chunks[:-1]:
        offsets += chunk["choices"][0]["logprobs"]["text_offset"]
    assert offsets == [0, 2, 2, 3]


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 20}, 20), ({"logprobs": False}, None), ({}, None)],
)
def test_the_worker_is_asked_for_as_many_as_the_client_wants(
    start_api: StartApi, body: dict[str, Any], expected: int | None
) -> None:
    seen = []

    def note(play: Play) -> None:
        seen.append(play.params.sampling.logprobs)
        play.end("x")

    chat(start_api(note), **body)
    assert seen == [expected]


@pytest.mark.parametrize(
    ("body", "param"), [({"top_logprobs": 1}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs")]
)
def test_a_chat_refuses_unsupported_log_probabilities(scored_api: Api, body: dict[str, Any], param: str) -> None:
    answer = chat(scored_api, **body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_a_stream_does_not_echo_log_probabilities(scored_api: Api) -> None:
    answer = complete(scored_api, logprobs=0, echo=True, stream=True)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "logprobs")


def prompt_script(play: Play) -> None:
    assert play.params.sampling.prompt_logprobs == 1
    play.prompt_logprobs = [TokenLogprobs(ScoredToken(7, b"Oh", 0.0)), HI]
    if play.params.sampling.max_new_tokens == 0:
        play.end("", logprobs=None)
    else:
        play.tell("!", OTHER_HALF)
        play.end("", logprobs=[END])


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_an_echo_has_the_log_probabilities_of_the_prompt(start_api: StartApi, max_tokens: int) -> None:
    """The request of lm-evaluation-harness: a prompt of token ids, its log probabilities and one token or none."""
    api = start_api(prompt_script)
    answer = complete(api, prompt=[7, 1], echo=True, logprobs=1, max_tokens=max_tokens, temperature=0)
    found = answer.json["choices"][0]["logprobs"]
    assert found["tokens"][:2] == ["Oh", "Hi"]
    assert found["token_logprobs"][:2] == [None, -0.5]
    assert found["top_logprobs"][:2] == [None, {"Hi": -0.5}]
    assert found["text_offset"][:2] == [0, 2]
    assert len(found["tokens"]) == 2 + 2 * max_tokens


@pytest.mark.parametrize("ask", [chat, complete], ids=["chat", "completion"])
def test_the_log_probabilities_of_the_prompt_in_the_form_of_vllm(start_api: StartApi, ask: Any) -> None:
    answer = ask(start_api(prompt_script), prompt_logprobs=1).json
    holder = answer if ask is chat else answer["choices"][0]
    assert holder["prompt_logprobs"] == [None, {"1": {"logprob": -0.5, "rank": 1, "decoded_token": "Hi"}}]


@pytest.mark.parametrize("ask", [chat, complete], ids=["chat", "completion"])
def test_a_stream_has_no_log_probabilities_of_the_prompt(scored_api: Api, ask: Any) -> None:
    answer = ask(scored_api, prompt_logprobs=1, stream=True)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "prompt_logprobs")


def test_nothing_to_compute_is_refused(scored_api: Api) -> None:
    answer = complete(scored_api, max_tokens=0)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "max_tokens")


@pytest.mark.parametrize("ask", [chat, complete], ids=["chat", "completion"])
def test_the_ids_of_the_tokens(start_api: StartApi, ask: Any) -> None:
    def tell(play: Play) -> None:
        assert play.params.tells_prompt_ids
        play.status("Generating response...", prompt_ids=[5, 6])
        play.tell("a")
        play.end("b")

    answer = ask(start_api(tell), return_token_ids=True).json
    holder = answer if ask is chat else answer["choices"][0]
    assert holder["prompt_token_ids"] == [5, 6]
    chunks = data_of(ask(start_api(tell), return_token_ids=True, stream=True))
    holders = chunks if ask is chat else [chunk["choices"][0] for chunk in chunks]
    assert [one["prompt_token_ids"] for one in holders if "prompt_token_ids" in one] == [[5, 6]]
    assert "prompt_token_ids" in holders[0]
    streamed = [chunk["choices"][0]["token_ids"] for chunk in chunks]
    assert [token_id for ids in streamed for token_id in ids] == answer["choices"][0]["token_ids"]
    assert answer["choices"][0]["token_ids"]


IDS = ["token_id:1", "token_id:3", "token_id:5", "token_id:0"]


def test_ids_can_replace_the_texts_of_tokens(scored_api: Api) -> None:
    of_chat = chat(scored_api, logprobs=True, top_logprobs=2, return_tokens_as_token_ids=True)
    content = of_chat.json["choices"][0]["logprobs"]["content"]
    assert [one["token"] for one in content] == IDS
    assert [one["token"] for one in content[0]["top_logprobs"]] == ["token_id:1", "token_id:2"]
    of_completion = complete(scored_api, logprobs=1, return_tokens_as_token_ids=True).json["choices"][0]["logprobs"]
    assert of_completion["tokens"] == IDS
    assert of_completion["top_logprobs"][1] == {"token_id:3": -1.0, "token_id:4": -0.25}
    assert of_completion["text_offset"] == [0, 2, 2, 3]


def test_a_stream_has_ids_in_place_of_texts_too(scored_api: Api) -> None:
    chunks = data_of(complete(scored_api, logprobs=0, stream=True, return_tokens_as_token_ids=True))
    found = [name for chunk in chunks if (one := chunk["choices"][0]["logprobs"]) for name in one["tokens"]]
    assert found == IDS


LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}


def respond(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/v1/responses", json={"input": "Hi"} | body)


def test_a_response_has_the_log_probabilities_of_a_chat(scored_api: Api) -> None:
    of_chat = chat(scored_api, logprobs=True, top_logprobs=2).json["choices"][0]["logprobs"]["content"]
    response = respond(scored_api, **LOGPROBS).json
    assert response["output"][0]["content"][0]["logprobs"] == of_chat
    assert scored_api.client.get(f"/v1/responses/{response['id']}").json == response


def test_the_events_of_a_response_have_the_log_probabilities_of_their_text(scored_api: Api) -> None:
    frames = frames_of(respond(scored_api, **LOGPROBS, stream=True))
    events = [json.loads(frame.partition("data: ")[2]) for frame in frames]
    pieces: dict[str, list[Any]] = {event["type"]: [] for event in events if "logprobs" in event}
    for event in events:
        if "logprobs" in event:
            pieces[event["type"]].append([one["bytes"] for one in event["logprobs"]])
    assert pieces == {
        "response.output_text.delta": [[[72, 105]], [[0xC3], [0xA9]]],
        "response.output_text.done": [[[72, 105], [0xC3], [0xA9], []]],
    }


def test_a_response_has_alternatives_only_with_log_probabilities(scored_api: Api) -> None:
    refused = respond(scored_api, top_logprobs=2)
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "top_logprobs")
