"""The reasoning of an answer under every API: apart from the text, in whole answers and in streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common.jobs.job import GenerateParams
from common.jobs.logprobs import ScoredToken, TokenLogprobs
from common.jobs.prompts import Conversation
from common.jobs.reasoning import THINK, Reasoning
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import MESSAGES, Seen, chat, complete, data_of, frames_of
from tests.unit.api.openai.test_tools import ONE, TOOLS

Json = dict[str, Any]
REASONING, TEXT = "Two and two.\n<tool_call>?", "Four."
THOUGHT = f"<think>\n{REASONING}\n</think>\n\n"
MAY = Reasoning(THINK, is_open=False)
ON = {"enable_thinking": True, "thinking": True}
OFF = {"enable_thinking": False, "thinking": False}
ASKED = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


def reasons(text: str = THOUGHT + TEXT, reasoning: Reasoning = MAY, finish_reason: str = "stop") -> Any:
    """A script: answer character by character, with the tokens of the reasoning counted if it is split off."""

    def script(play: Play) -> None:
        splits = play.params.splits_reasoning
        play.status("Generating response...", reasoning=reasoning if splits else None)
        play.say(*text[:-1])
        play.reasoning_tokens = 7 if splits else None
        play.end(text[-1], finish_reason=finish_reason)

    return script


@pytest.fixture
def api(start_api: StartApi) -> Api:
    return start_api(reasons())


def deltas_of(stream: TestResponse) -> list[Json]:
    return [chunk["choices"][0]["delta"] for chunk in data_of(stream) if chunk["choices"]]


def joined(deltas: list[Json], name: str) -> str:
    return "".join(delta.get(name) or "" for delta in deltas)


def test_a_chat_has_it_beside_the_content(api: Api) -> None:
    answer = chat(api).json
    expected = {"role": "assistant", "content": TEXT, "refusal": None}
    assert answer["choices"][0]["message"] == expected | {"reasoning": REASONING, "reasoning_content": REASONING}
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 7}


def test_a_streamed_chat_has_it_in_deltas_of_its_own(api: Api) -> None:
    stream = data_of(chat(api, stream=True, stream_options={"include_usage": True}))
    assert stream[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 7}
    deltas = [chunk["choices"][0]["delta"] for chunk in stream[:-1]]
    assert joined(deltas, "reasoning") == joined(deltas, "reasoning_content") == REASONING
    assert joined(deltas, "content") == TEXT
    first_text = next(index for index, delta in enumerate(deltas) if delta.get("content"))
    assert not any("reasoning" in delta for delta in deltas[first_text:])


def test_reasoning_that_was_cut_off_has_no_content(start_api: StartApi) -> None:
    api = start_api(reasons("So far", Reasoning(THINK, is_open=True), "length"))
    (choice,) = chat(api).json["choices"]
    assert (choice["message"]["reasoning"], choice["message"]["content"]) == ("So far", None)
    assert choice["finish_reason"] == "length"


def test_calls_of_tools_come_after_it(start_api: StartApi) -> None:
    api = start_api(reasons(THOUGHT + ONE))
    (choice,) = chat(api, tools=TOOLS).json["choices"]
    assert (choice["message"]["reasoning"], choice["message"]["content"]) == (REASONING, None)
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    deltas = deltas_of(chat(api, tools=TOOLS, stream=True))
    assert joined(deltas, "reasoning") == REASONING
    assert joined(deltas, "content") == ""
    assert any("tool_calls" in delta for delta in deltas)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_can_leave_it_out(api: Api, stream: bool) -> None:
    answer = chat(api, include_reasoning=False, stream=stream)
    said = deltas_of(answer) if stream else [answer.json["choices"][0]["message"]]
    assert joined(said, "content") == TEXT
    assert not any("reasoning" in one or "reasoning_content" in one for one in said)


def test_or_keep_it_in_the_content(api: Api) -> None:
    (choice,) = chat(api, reasoning_format="none").json["choices"]
    assert choice["message"] == {"role": "assistant", "content": THOUGHT + TEXT, "refusal": None}


def test_texts_without_a_template_are_not_split(api: Api) -> None:
    answer = complete(api).json
    assert answer["choices"][0]["text"] == THOUGHT + TEXT
    assert "completion_tokens_details" not in answer["usage"]


def test_nor_are_jobs(api: Api) -> None:
    answer = api.client.post("/slm/generate", json={"prompt": "Hi"}).json
    assert answer["response"] == THOUGHT + TEXT


def test_a_response_has_an_item_of_it(api: Api) -> None:
    answer = api.client.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).json
    reasoning, message = answer["output"]
    job_id = answer["id"].removeprefix("resp_")
    assert reasoning == {
        "id": f"rs_{job_id}",
        "type": "reasoning",
        "status": "completed",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": REASONING}],
    }
    assert message["content"][0]["text"] == TEXT
    assert answer["usage"]["output_tokens_details"] == {"reasoning_tokens": 7}


def test_the_events_of_a_response_agree_with_it(api: Api) -> None:
    stream = api.client.post("/v1/responses", json={"model": MODEL, "input": "Hi", "stream": True})
    events = [json.loads(frame.split("\n")[1].removeprefix("data: ")) for frame in frames_of(stream)]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(f"{event.get('output_index', '')}{event['type']}" for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "0response.output_item.added",
        "0response.content_part.added",
        "0response.reasoning_text.delta",
        "0response.reasoning_text.done",
        "0response.content_part.done",
        "0response.output_item.done",
        "1response.output_item.added",
        "1response.content_part.added",
        "1response.output_text.delta",
        "1response.output_text.done",
        "1response.content_part.done",
        "1response.output_item.done",
        "response.completed",
    ]
    thought = "".join(event["delta"] for event in events if event["type"] == "response.reasoning_text.delta")
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert (thought, done) == (REASONING, events[-1]["response"]["output"])


@pytest.mark.parametrize("together", [False, True], ids=["each token alone", "one event"])
def test_the_log_probabilities_of_a_response_are_those_of_its_text(start_api: StartApi, together: bool) -> None:
    pieces = ["<think>", "So", "</think>", "\n\n", "Four", "."]
    scored = [TokenLogprobs(ScoredToken(index, piece.encode(), -0.5)) for index, piece in enumerate(pieces)]

    def script(play: Play) -> None:
        play.status("Generating response...", reasoning=MAY if play.params.splits_reasoning else None)
        if together:
            play.tell("".join(pieces), *scored)
        else:
            for piece, token in zip(pieces, scored, strict=True):
                play.tell(piece, token)
        play.end("")

    include = ["message.output_text.logprobs"]
    answer = start_api(script).client.post("/v1/responses", json={"model": MODEL, "input": "Hi", "include": include})
    _, message = answer.json["output"]
    (part,) = message["content"]
    assert (part["text"], [token["token"] for token in part["logprobs"]]) == ("Four.", ["Four", "."])


def test_the_next_response_is_not_shown_it(start_api: StartApi) -> None:
    seen: list[GenerateParams] = []

    def script(play: Play) -> None:
        seen.append(play.params)
        reasons()(play)

    api = start_api(script)
    first = api.client.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).json
    api.client.post("/v1/responses", json={"model": MODEL, "input": "And?", "previous_response_id": first["id"]})
    prompt = seen[-1].prompt
    assert isinstance(prompt, Conversation)
    assert prompt.messages[1] == {"role": "assistant", "content": TEXT}


def test_a_conversation_shows_the_answer_alone(api: Api) -> None:
    conversation = api.client.post("/v1/conversations", json={}).json["id"]
    api.client.post("/v1/responses", json={"model": MODEL, "input": "Hi", "conversation": conversation})
    items = api.client.get(f"/v1/conversations/{conversation}/items", query_string={"order": "asc"}).json["data"]
    assert [item["content"][0]["text"] for item in items] == ["Hi", TEXT]


def message(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/v1/messages", json={"model": MODEL, "messages": MESSAGES, "max_tokens": 99} | body)


def test_a_message_has_a_block_of_it_if_the_client_asked(api: Api) -> None:
    thinking = {"type": "thinking", "thinking": REASONING, "signature": ""}
    text = {"type": "text", "text": TEXT}
    assert message(api, **ASKED).json["content"] == [thinking, text]
    assert message(api).json["content"] == [text]
    assert message(api, thinking={"type": "adaptive", "display": "omitted"}).json["content"] == [text]


def test_a_streamed_message_has_it_first(api: Api) -> None:
    frames = [frame.split("\n")[1].removeprefix("data: ") for frame in frames_of(message(api, stream=True, **ASKED))]
    events = [json.loads(frame) for frame in frames]
    begun = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert begun == ["thinking", "text"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert (joined(deltas, "thinking"), joined(deltas, "text")) == (REASONING, TEXT)
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [0, 1]


@pytest.mark.parametrize(("path", "body"), [("chat", {"messages": MESSAGES}), ("generate", {"prompt": "Hi"})])
def test_ollama_calls_it_thinking(api: Api, path: str, body: Json) -> None:
    def said(part: Json) -> Json:
        return dict(part["message"]) if path == "chat" else part

    def send(**more: Any) -> TestResponse:
        return api.client.post(f"/api/{path}", json={"model": MODEL} | body | more)

    text = "content" if path == "chat" else "response"
    whole = said(send(stream=False).json)
    assert (whole["thinking"], whole[text]) == (REASONING, TEXT)
    lines = [said(json.loads(line)) for line in send().get_data(as_text=True).splitlines()]
    assert (joined(lines, "thinking"), joined(lines, text)) == (REASONING, TEXT)
    without = said(send(stream=False, think=False).json)
    assert (without.get("thinking"), without[text]) == (None, TEXT)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}, {}),
        ("/v1/chat/completions", {"messages": MESSAGES, "reasoning_effort": "low"}, {"reasoning_effort": "low"} | ON),
        ("/v1/chat/completions", {"messages": MESSAGES, "reasoning": {"effort": "none"}}, OFF),
        ("/v1/chat/completions", {"messages": MESSAGES, "enable_thinking": False}, OFF),
        (
            "/v1/chat/completions",
            {"messages": MESSAGES, "enable_thinking": False, "chat_template_kwargs": {"thinking": 1}},
            OFF | {"thinking": 1},
        ),
        ("/v1/responses", {"input": "Hi", "reasoning": {"effort": "high"}}, {"reasoning_effort": "high"} | ON),
        ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9}, OFF),
        ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9} | ASKED, ON),
        ("/api/chat", {"messages": MESSAGES}, {}),
        ("/api/chat", {"messages": MESSAGES, "think": False}, OFF),
        ("/api/generate", {"prompt": "Hi", "think": "high"}, {"reasoning_effort": "high"} | ON),
    ],
    ids=["none", "low", "off", "dashscope", "kwargs", "responses", "anthropic", "asked", "ollama", "no", "high"],
)
def test_what_the_client_wants_are_variables_of_the_template(
    start_api: StartApi, seen: Seen, path: str, body: Json, expected: Json
) -> None:
    assert start_api(seen).client.post(path, json={"model": MODEL} | body).status_code == 200
    prompt = seen.params[-1].prompt
    assert isinstance(prompt, Conversation)
    assert prompt.variables == expected
    assert seen.params[-1].splits_reasoning


SAID = {"role": "assistant", "content": TEXT}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [*MESSAGES, SAID | {"reasoning": REASONING}, *MESSAGES]}),
        ("/v1/chat/completions", {"messages": [*MESSAGES, SAID | {"reasoning_content": REASONING}, *MESSAGES]}),
        ("/api/chat", {"messages": [*MESSAGES, SAID | {"thinking": REASONING}, *MESSAGES]}),
        (
            "/v1/responses",
            {
                "input": [
                    *MESSAGES,
                    {
                        "type": "reasoning",
                        "id": "rs_1",
                        "summary": [],
                        "content": [{"type": "reasoning_text", "text": REASONING}],
                    },
                    SAID,
                    *MESSAGES,
                ]
            },
        ),
        (
            "/v1/messages",
            {
                "max_tokens": 9,
                "messages": [
                    *MESSAGES,
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": REASONING, "signature": ""},
                            {"type": "text", "text": TEXT},
                        ],
                    },
                    *MESSAGES,
                ],
            },
        ),
    ],
    ids=["vllm", "llama.cpp", "ollama", "responses", "anthropic"],
)
def test_reasoning_that_is_sent_back_is_given_to_the_template(
    start_api: StartApi, seen: Seen, path: str, body: Json
) -> None:
    assert start_api(seen).client.post(path, json={"model": MODEL} | body).status_code == 200
    prompt = seen.params[-1].prompt
    assert isinstance(prompt, Conversation)
    assert prompt.messages[1] == {"role": "assistant", "content": TEXT, "reasoning_content": REASONING}


def test_an_input_needs_more_than_reasoning(api: Api) -> None:
    answer = api.client.post("/v1/responses", json={"model": MODEL, "input": [{"type": "reasoning", "summary": []}]})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "input")
