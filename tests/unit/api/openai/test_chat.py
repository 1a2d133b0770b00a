"""Chat completions: the worker's input, and the client's answer, whole and in chunks."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from common.errors import Cancelled, InvalidRequest, PromptTooLong, WorkerLost
from common.jobs.prompts import Conversation, Ending
from common.jobs.sampling import Grammar, GrammarKind
from tests.api_in_process import MODEL, Api
from tests.processes import wait_for
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import MESSAGES, Seen, blocks_of, chat, complete, data_of, frames_of


def test_the_answer_is_the_model_s_text_unchanged(start_api: StartApi) -> None:
    api = start_api(lambda play: play.end(" Once upon "))
    assert chat(api).json["choices"][0]["message"] == {"role": "assistant", "content": " Once upon ", "refusal": None}


def test_the_pieces_of_a_stream_are_the_whole_answer(api: Api) -> None:
    whole = chat(api).json["choices"][0]["message"]["content"]
    chunks = data_of(chat(api, stream=True))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == whole == "Once upon a time."


def test_a_stream_begins_with_the_role_and_ends_with_the_reason(api: Api) -> None:
    chunks = data_of(chat(api, stream=True))
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, None, "stop"]
    assert chunks[-1]["choices"][0]["delta"] == {}


def test_all_chunks_have_one_id_and_one_time(api: Api) -> None:
    chunks = data_of(chat(api, stream=True))
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_the_finish_reason_is_returned(start_api: StartApi, reason: str) -> None:
    api = start_api(lambda play: play.end("x", finish_reason=reason))
    assert chat(api).json["choices"][0]["finish_reason"] == reason


def test_the_answer_s_id_is_the_job_s(api: Api) -> None:
    answer = chat(api)
    job_id = answer.json["id"].removeprefix("chatcmpl-")
    assert answer.headers["X-Job-Id"] == job_id
    assert api.job(job_id)["status"] == "succeeded"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_client_can_ask_not_to_wait(api: Api, path: str) -> None:
    asked = {"messages": MESSAGES} if "chat" in path else {"prompt": "Hi"}
    headers = {"Prefer": "respond-async"}
    accepted = api.client.post(path, json=asked, headers=headers)
    assert accepted.status_code == 202
    assert accepted.headers["Location"] == f"/slm/jobs/{accepted.json['job_id']}"
    assert api.finish(accepted.json["job_id"])["result"]["response"] == "Once upon a time."
    refused = api.client.post(path, json=asked | {"n": 2}, headers=headers)
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "n")


def test_a_stream_reports_its_usage_on_request(api: Api) -> None:
    *chunks, last = data_of(chat(api, stream=True, stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3
    assert {str(chunk["usage"]) for chunk in chunks} == {"None"}
    assert all("usage" not in chunk for chunk in data_of(chat(api, stream=True)))


def test_the_messages_go_to_the_worker_as_a_conversation(start_api: StartApi, seen: Seen) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    chat(
        start_api(seen),
        messages=[
            {"role": "developer", "content": "Be brief"},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": "c", "refusal": None, "tool_calls": None},
            {"role": "user", "content": "d"},
        ],
    )
    assert seen.params[0].prompt == Conversation(
        (
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "a\nb"},
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": "d"},
        )
    )


SAMPLING: dict[str, tuple[Any, str, Any]] = {
    "max_tokens": (7, "max_new_tokens", 7),
    "max_completion_tokens": (7, "max_new_tokens", 7),
    "min_tokens": (3, "min_new_tokens", 3),
    "temperature": (0, "temperature", 0),
    "top_p": (0, "top_p", 1e-9),
    "top_k": (-1, "top_k", 0),
    "min_p": (0.1, "min_p", 0.1),
    "repetition_penalty": (1.5, "repetition_penalty", 1.5),
    "presence_penalty": (-2, "presence_penalty", -2),
    "frequency_penalty": (2, "frequency_penalty", 2),
    "logit_bias": ({"17": -100}, "logit_bias", {17: -100}),
    "stop": ("END", "stop", ("END",)),
    "stop_token_ids": ([5, 6], "stop_token_ids", (5, 6)),
    "ignore_eos": (True, "ignore_eos", True),
    "seed": (-1, "seed", 2**63 - 1),
    "response_format": ({"type": "json_object"}, "grammar", Grammar(GrammarKind.JSON_OBJECT)),
}


@pytest.mark.parametrize("field", SAMPLING)
def test_a_sampling_field_reaches_the_worker(start_api: StartApi, seen: Seen, field: str) -> None:
    value, name, expected = SAMPLING[field]
    assert chat(start_api(seen), **{field: value}).status_code == 200
    assert getattr(seen.params[0].sampling, name) == expected


def test_a_schema_reaches_the_worker_as_json(start_api: StartApi, seen: Seen) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    chat(start_api(seen), response_format=wanted)
    assert seen.params[0].sampling.grammar == Grammar(
        GrammarKind.JSON_SCHEMA, '{"type": "object", "properties": {"a": {"type": "integer"}}}'
    )


def test_the_defaults_are_openai_s(start_api: StartApi, seen: Seen) -> None:
    chat(start_api(seen))
    sampling = seen.params[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.do_sample) == (1.0, 1.0, True)
    assert sampling.max_new_tokens > 100_000  # as many as fit the context


def test_a_field_that_is_null_counts_as_left_out(start_api: StartApi, seen: Seen) -> None:
    assert chat(start_api(seen), stop=None, max_tokens=None, tools=None).status_code == 200
    assert seen.params[0].sampling.stop == ()


def test_several_choices_have_seeds_that_follow_each_other(start_api: StartApi, seen: Seen) -> None:
    answer = chat(start_api(seen), n=3, seed=40).json
    assert sorted(params.sampling.seed for params in seen.params) == [40, 41, 42]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]


def test_a_prompt_counts_once_for_all_its_choices(api: Api) -> None:
    one, three = chat(api).json["usage"], chat(api, n=3).json["usage"]
    assert three["prompt_tokens"] == one["prompt_tokens"]
    assert three["completion_tokens"] == 3 * one["completion_tokens"]
    streamed = data_of(chat(api, n=3, stream=True, stream_options={"include_usage": True}))
    assert streamed[-1]["usage"] == three


def test_the_choices_of_a_stream_are_distinguished_by_index(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say("a", "b")
        play.end(str(play.params.sampling.seed))

    texts = ["", "", ""]
    for chunk in data_of(chat(start_api(script), n=3, seed=5, stream=True)):
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["ab5", "ab6", "ab7"]


def test_when_one_choice_fails_the_others_are_cancelled(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        if play.params.sampling.seed == 5:
            play.fail(WorkerLost("gone"))
        else:
            play.run_until_cancelled()

    api = start_api(script)
    answer = chat(api, n=2, seed=5)
    assert (answer.status_code, answer.json["error"]["code"]) == (500, "worker_lost")
    wait_for("the other to end", lambda: {job["status"] for job in jobs(api)} == {"failed", "cancelled"}, 10)


def test_choices_that_do_not_all_fit_the_queue_are_all_refused(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled, max_queue=1)
    answer = chat(api, n=8)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "queue_full")
    wait_for("the entered ones to end", lambda: {job["status"] for job in jobs(api)} == {"cancelled"}, 10)


def jobs(api: Api) -> list[dict[str, Any]]:
    return list(api.client.get("/slm/jobs").json["jobs"])


def test_a_prompt_that_is_too_long_is_refused_in_openai_s_words(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(PromptTooLong("The prompt has 9 tokens; 8 fit.", param="prompt")))
    for stream in (False, True):
        answer = chat(api, stream=stream)
        assert answer.status_code == 400
        assert answer.json["error"] == {
            "message": "The prompt has 9 tokens; 8 fit.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }


def test_messages_that_the_template_refuses_are_named(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(InvalidRequest("no system role", param="messages")))
    assert chat(api).json["error"]["param"] == "messages"


def test_an_error_in_a_stream_is_its_last_frame(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say("Once ")
        play.fail(WorkerLost("The workers died."))

    *_, piece, last = frames_of(chat(start_api(script), stream=True))
    assert '"content": "Once "' in piece
    assert last.startswith('data: {"error": {"message": "The workers died.", "type": "server_error", ')


def test_a_job_that_somebody_cancels_ends_its_stream_with_an_error(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say("Once ")
        play.end_cancelled()

    assert f'"code": "{Cancelled.code}"' in frames_of(chat(start_api(script), stream=True))[-1]


def test_a_cancelled_answer_is_not_retried(start_api: StartApi) -> None:
    answer = chat(start_api(Play.end_cancelled))
    assert (answer.status_code, answer.headers["X-Should-Retry"]) == (409, "false")


def test_other_events_are_comments(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.status("Loading SLM model...")
        play.end("x")

    assert ": Loading SLM model..." in blocks_of(chat(start_api(script), stream=True))


def test_a_queue_position_is_a_comment(start_api: StartApi, redis: Redis) -> None:
    api = start_api(Play.run_until_cancelled)
    busy = [api.submit() for _ in range(3)]
    stream = chat(api, stream=True)
    api.client.delete(f"/slm/jobs/{stream.headers['X-Job-Id']}")
    assert ": queued, position 1" in blocks_of(stream)
    for job_id in busy:
        api.client.delete(f"/slm/jobs/{job_id}")


def test_a_silent_stream_has_heartbeats(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled, heartbeat_s=0.05)
    stream = chat(api, stream=True)
    blocks = iter(stream.response)  # type: ignore[arg-type]
    wait_for("a heartbeat", lambda: next(blocks) == b": heartbeat\n\n", 10)
    api.client.delete(f"/slm/jobs/{stream.headers['X-Job-Id']}")
    stream.get_data()


def test_the_jobs_of_a_client_that_leaves_are_cancelled(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled, reader_grace_s=0.2, heartbeat_s=0.05)
    stream = chat(api, n=2, stream=True)
    stream.close()
    wait_for("both to be cancelled", lambda: [job["status"] for job in jobs(api)] == ["cancelled"] * 2, 10)


def test_a_request_that_is_sent_again_under_its_key_gets_the_same_choices(start_api: StartApi, seen: Seen) -> None:
    api = start_api(seen)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "n": 2}
    first, second = (
        api.client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
    )
    assert first.json == second.json
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(seen.params) == 2
    other = api.client.post("/v1/chat/completions", json=body | {"n": 1}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json["error"]["code"]) == (422, "idempotency_mismatch")


def test_the_service_s_own_fields_are_accepted_too(api: Api) -> None:
    job_id = chat(api, priority="bulk", ttl=60, timeout=60).headers["X-Job-Id"]
    assert api.redis.hget(f"slm:job:{job_id}", "bulk") == "1"


@pytest.mark.parametrize(
    ("body", "ending"),
    [
        ({}, Ending.NEW_TURN),
        ({"add_generation_prompt": True}, Ending.NEW_TURN),
        ({"add_generation_prompt": False}, Ending.CLOSED),
        ({"continue_final_message": True}, Ending.CONTINUE),
        ({"continue_final_message": True, "add_generation_prompt": False}, Ending.CONTINUE),
    ],
)
def test_the_answer_can_continue_the_last_message(
    start_api: StartApi, seen: Seen, body: dict[str, Any], ending: Ending
) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": "Sure, "}]
    assert chat(start_api(seen), messages=messages, **body).status_code == 200
    prompt = seen.params[0].prompt
    assert isinstance(prompt, Conversation)
    assert (prompt.ending, len(prompt.messages)) == (ending, 2)


def test_variables_for_the_template_reach_it(start_api: StartApi, seen: Seen) -> None:
    variables = {"enable_thinking": False, "reasoning_effort": "low", "budget": 3, "date": None}
    assert chat(start_api(seen), chat_template_kwargs=variables).status_code == 200
    prompt = seen.params[0].prompt
    assert isinstance(prompt, Conversation)
    assert prompt.variables == variables


@pytest.mark.parametrize(
    "name", ["messages", "tools", "add_generation_prompt", "bos_token", "additional_special_tokens"]
)
def test_variables_that_the_server_sets_are_refused(shared_api: Api, name: str) -> None:
    answer = chat(shared_api, chat_template_kwargs={name: "x"})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "chat_template_kwargs")
    assert name in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"a": "<|im_end|>"},
        {"a": ["x"]},
        {"a": {}},
        {"a-b": 1},
        {str(i): 1 for i in range(9)},
        {f"a{i}": 1 for i in range(17)},
    ],
    ids=["special token", "list", "object", "name", "digits", "too many"],
)
def test_a_variable_for_the_template_is_a_simple_value(shared_api: Api, wrong: dict[str, Any]) -> None:
    answer = chat(shared_api, chat_template_kwargs=wrong)
    assert answer.status_code == 400
    assert answer.json["error"]["param"].startswith("chat_template_kwargs")


def test_a_wrong_variable_is_explained(shared_api: Api) -> None:
    error = chat(shared_api, chat_template_kwargs={"fine": 1, "bad": "<|im_end|>"}).json["error"]
    assert error["param"] == "chat_template_kwargs.bad"
    assert "chat_template_kwargs.bad must be true, false, null, a number, or a text of at most 64" in error["message"]


def test_usage_has_the_cached_tokens_of_each_prompt_once(start_api: StartApi) -> None:
    api = start_api(lambda play: play.end("ok", cached_tokens=5))
    assert chat(api, n=2).json["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}
    last = data_of(chat(api, n=2, stream=True, stream_options={"include_usage": True}))[-1]
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}
    response = api.client.post("/v1/responses", json={"input": "Hi"}).json
    assert response["usage"]["input_tokens_details"]["cached_tokens"] == 5


CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}


def test_every_chunk_can_have_the_numbers_of_tokens_so_far(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        assert play.params.tells_prompt_ids
        play.status("Generating response...", prompt_ids=[0] * len(play.prompt.split()))
        play.say("a ", "b ")
        play.end("c")

    for ask in (chat, complete):
        chunks = data_of(ask(start_api(script), stream=True, stream_options=CONTINUOUS))
        counts = [(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"]) for chunk in chunks]
        prompt = chunks[-1]["usage"]["prompt_tokens"]
        opening = [(0, 0)] if ask is chat else []
        assert counts == [*opening, *((prompt, number) for number in (1, 2, 3, 3))]
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert all(chunk["usage"]["total_tokens"] == sum(pair) for chunk, pair in zip(chunks, counts, strict=True))
        assert not any("prompt_token_ids" in chunk for chunk in chunks)


def test_choices_count_together_and_their_prompt_once(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.status("Generating response...", prompt_ids=[0] * len(play.prompt.split()))
        play.end("c")

    *_, before, last = data_of(chat(start_api(script), n=2, stream=True, stream_options=CONTINUOUS))
    assert before["usage"]["completion_tokens"] == 2
    assert {**before["usage"], "prompt_tokens_details": {"cached_tokens": 0}} == last["usage"]


def test_continuous_numbers_of_tokens_need_include_usage(api: Api) -> None:
    chunks = data_of(chat(api, stream=True, stream_options={"continuous_usage_stats": True}))
    assert not any("usage" in chunk for chunk in chunks)
