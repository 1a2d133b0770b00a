"""Completions: raw prompts, several at once, and the echo."""

from __future__ import annotations

from typing import Any

import pytest

from common.jobs.prompts import RawText, TokenIds
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import Seen, complete, data_of


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Hi", [RawText("Hi")]),
        (["a", "b"], [RawText("a"), RawText("b")]),
        ([1, 2, 0], [TokenIds((1, 2, 0))]),
        ([0], [TokenIds((0,))]),
        ([[1, 2], [3]], [TokenIds((1, 2)), TokenIds((3,))]),
    ],
)
def test_every_form_of_a_prompt_reaches_the_worker(
    start_api: StartApi, seen: Seen, prompt: Any, expected: list[Any]
) -> None:
    answer = complete(start_api(seen), prompt=prompt).json
    assert {params.prompt for params in seen.params} == set(expected)
    assert len(answer["choices"]) == len(expected)


def test_sixteen_tokens_are_the_default(start_api: StartApi, seen: Seen) -> None:
    complete(start_api(seen))
    assert seen.params[0].sampling.max_new_tokens == 16


def test_the_choices_of_a_prompt_are_consecutive(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.end(f"{play.prompt}{play.params.sampling.seed}")

    answer = complete(start_api(script), prompt=["a", "b"], n=2, seed=0).json
    assert [choice["text"] for choice in answer["choices"]] == ["a0", "a1", "b0", "b1"]
    assert answer["usage"]["prompt_tokens"] == 2


def test_the_echo_precedes_the_answer(api: Api) -> None:
    assert complete(api, prompt="Say: ", echo=True).json["choices"][0]["text"] == "Say: Once upon a time."


def test_a_stream_begins_with_the_echo(api: Api) -> None:
    chunks = data_of(complete(api, prompt=["a ", "b "], echo=True, stream=True))
    assert [chunk["choices"][0]["text"] for chunk in chunks[:2]] == ["a ", "b "]
    assert chunks[0]["object"] == "text_completion"


def test_the_pieces_of_a_stream_are_the_whole_answer(api: Api) -> None:
    chunks = data_of(complete(api, stream=True))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == complete(api).json["choices"][0]["text"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_cannot_echo_tokens(api: Api) -> None:
    answer = complete(api, prompt=[1], echo=True, stream=True)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "echo")


def test_too_many_choices_in_all_are_refused(api: Api) -> None:
    answer = complete(api, prompt=["a"] * 65, n=2)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "n")


def test_the_text_after_the_answer_reaches_the_worker(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    complete(api, prompt=["a", "b"], suffix="z")
    complete(api, prompt="a", suffix="")
    assert {params.prompt for params in seen.params} == {RawText("a", "z"), RawText("b", "z"), RawText("a")}


@pytest.mark.parametrize(
    ("body", "param"), [({"prompt": [1]}, "suffix"), ({"echo": True}, "echo")], ids=["ids", "echo"]
)
def test_a_suffix_needs_a_text_without_an_echo(api: Api, body: dict[str, Any], param: str) -> None:
    answer = complete(api, suffix="z", **body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)
