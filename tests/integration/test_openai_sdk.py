"""OpenAI's own Python client against the API as it runs in production; only the worker is scripted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
import requests
from openai import OpenAI
from openai.types import Batch
from pydantic import BaseModel
from redis import Redis

from common.errors import JobTimeout, PromptTooLong, WorkerLost
from common.jobs.logprobs import ScoredToken, TokenLogprobs
from common.jobs.prompts import Conversation
from common.redis.client import connect
from tests.api_process import ApiProcess, running_api
from tests.processes import wait_for
from tests.redis_server import RedisServer
from tests.scripted_worker import Play, Script, ScriptedWorker, answer

TIMEOUT_S = 90
MODEL = "gpt2"
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def api(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("api")
    with connect(redis_server.url) as redis:
        redis.flushall()  # earlier tests may have left API keys
    with running_api(folder, redis_url=redis_server.url, reader_grace_s=2, drain_s=2) as api:
        yield api


@pytest.fixture
def client(api: ApiProcess, real_redis: Redis) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{api.url}/v1", api_key="none", timeout=TIMEOUT_S) as client:
        yield client


@contextmanager
def worker(redis: Redis, script: Script) -> Iterator[ScriptedWorker]:
    with ScriptedWorker(redis, script) as running:
        yield running


@pytest.fixture
def story(real_redis: Redis) -> Iterator[ScriptedWorker]:
    with worker(real_redis, answer("Once ", "upon ", "a time.")) as running:
        yield running


class Flaky:
    """A script that fails the given number of times, then answers."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.num_asked = 0
        self._times = times

    def __call__(self, play: Play) -> None:
        self.num_asked += 1
        if self.num_asked <= self._times:
            play.fail(self.error)
        else:
            play.end("ok")


def test_models(client: OpenAI, story: ScriptedWorker) -> None:
    assert [model.id for model in client.models.list()] == ["default", MODEL]
    assert client.models.retrieve(MODEL).owned_by == "slm"


def test_a_chat(client: OpenAI, story: ScriptedWorker) -> None:
    done = client.chat.completions.create(model=MODEL, messages=HI, n=2, seed=1, max_completion_tokens=5)
    assert [choice.message.content for choice in done.choices] == ["Once upon a time."] * 2
    assert done.usage is not None
    assert done.usage.completion_tokens == 6


def test_an_answer_goes_back_into_the_conversation(client: OpenAI, story: ScriptedWorker) -> None:
    first = client.chat.completions.create(model=MODEL, messages=HI).choices[0].message
    again = client.chat.completions.create(model=MODEL, messages=[*HI, first, *HI])
    assert again.choices[0].message.role == "assistant"


def test_a_streamed_chat(client: OpenAI, story: ScriptedWorker) -> None:
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Once upon a time."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None


def test_the_client_s_own_gathering_of_a_stream(client: OpenAI, story: ScriptedWorker) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HI) as stream:
        done = stream.get_final_completion()
    assert done.choices[0].message.content == "Once upon a time."


def test_a_completion(client: OpenAI, story: ScriptedWorker) -> None:
    done = client.completions.create(model=MODEL, prompt=["a ", "b "], echo=True)
    assert [choice.text for choice in done.choices] == ["a Once upon a time.", "b Once upon a time."]
    pieces = client.completions.create(model=MODEL, prompt=[1, 2], stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == "Once upon a time."


def test_log_probabilities(client: OpenAI, real_redis: Redis) -> None:
    scored = ScoredToken(1, b"Hi", -0.5)
    with worker(real_redis, lambda play: play.end("Hi", logprobs=[TokenLogprobs(scored, (scored,))])):
        returned = (
            client.chat.completions.create(model=MODEL, messages=HI, logprobs=True, top_logprobs=1).choices[0].logprobs
        )
        side_by_side = client.completions.create(model=MODEL, prompt="x", logprobs=1).choices[0].logprobs
    assert returned is not None
    assert returned.content is not None
    assert returned.content[0].top_logprobs[0].logprob == -0.5
    assert side_by_side is not None
    assert (side_by_side.tokens, side_by_side.token_logprobs) == (["Hi"], [-0.5])


def test_fields_of_vllm(client: OpenAI, real_redis: Redis) -> None:
    seen = []

    def script(play: Play) -> None:
        seen.append(play.params.sampling)
        play.end("x")

    with worker(real_redis, script):
        client.chat.completions.create(
            model=MODEL, messages=HI, extra_body={"top_k": 5, "min_p": 0.1, "priority": "bulk"}
        )
    assert (seen[0].top_k, seen[0].min_p) == (5, 0.1)


def test_errors_are_the_client_s_classes(client: OpenAI, real_redis: Redis) -> None:
    with worker(real_redis, lambda play: play.fail(PromptTooLong("9 tokens; 8 fit", param="prompt"))):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=MODEL, messages=HI, extra_body={"nonsense": 1})
        assert (refused.value.param, refused.value.type) == ("nonsense", "invalid_request_error")
        with pytest.raises(openai.BadRequestError) as too_long:
            client.chat.completions.create(model=MODEL, messages=HI)
        assert too_long.value.code == "context_length_exceeded"
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="gpt-5", messages=HI)
        assert unknown.value.code == "model_not_found"
        assert unknown.value.request_id


def test_an_error_in_a_stream_is_raised(client: OpenAI, real_redis: Redis) -> None:
    def script(play: Play) -> None:
        play.say("Once ")
        play.fail(WorkerLost("gone"))

    with worker(real_redis, script):
        stream = client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        with pytest.raises(openai.APIError, match="gone"):
            list(stream)


def test_temporary_failures_are_retried(client: OpenAI, real_redis: Redis) -> None:
    script = Flaky(WorkerLost("gone"), times=2)
    with worker(real_redis, script):
        done = client.with_options(max_retries=2).chat.completions.create(model=MODEL, messages=HI)
    assert (done.choices[0].message.content, script.num_asked) == ("ok", 3)


def test_permanent_failures_are_not_retried(client: OpenAI, real_redis: Redis) -> None:
    script = Flaky(JobTimeout("too slow"), times=9)
    with worker(real_redis, script), pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model=MODEL, messages=HI)
    assert script.num_asked == 1


def test_a_response(client: OpenAI, story: ScriptedWorker) -> None:
    done = client.responses.create(model=MODEL, input="Hi", instructions="Be brief")
    assert (done.status, done.output_text) == ("completed", "Once upon a time.")
    more = client.responses.create(model=MODEL, input=[*done.output, {"role": "user", "content": "And then?"}])
    assert more.output_text == "Once upon a time."


def test_a_kept_response(client: OpenAI, story: ScriptedWorker) -> None:
    first = client.responses.create(model=MODEL, input="Hi")
    second = client.responses.create(model=MODEL, input="And then?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    items = list(client.responses.input_items.list(second.id, limit=2, order="asc"))
    assert [item.type for item in items] == ["message"] * 3
    assert client.responses.input_tokens.count(model=MODEL, input="Hi").input_tokens > 0
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)


def test_the_client_s_own_gathering_of_a_response(client: OpenAI, story: ScriptedWorker) -> None:
    with client.responses.stream(model=MODEL, input="Hi") as stream:
        assert stream.get_final_response().output_text == "Once upon a time."


def test_a_background_response_can_be_resumed(client: OpenAI, story: ScriptedWorker) -> None:
    begun = client.responses.create(model=MODEL, input="Hi", background=True, stream=True)
    first = [event for event, _ in zip(begun, range(5), strict=False)]
    begun.close()
    response_id = first[0].response.id  # type: ignore[union-attr]
    rest = list(client.responses.retrieve(response_id, stream=True, starting_after=first[-1].sequence_number))
    assert [event.sequence_number for event in (*first, *rest)] == list(range(len(first) + len(rest)))
    assert client.responses.retrieve(response_id).output_text == "Once upon a time."


def test_a_background_response_is_cancelled(client: OpenAI, real_redis: Redis) -> None:
    with worker(real_redis, Play.run_until_cancelled):
        begun = client.responses.create(model=MODEL, input="Hi", background=True)
        assert client.responses.cancel(begun.id).status == "cancelled"


def test_a_batch(client: OpenAI, story: ScriptedWorker, tmp_path: Path) -> None:
    requests_file = tmp_path / "requests.jsonl"
    body = {"model": MODEL, "messages": HI}
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number in range(40)
    ]
    lines[7]["body"] = body | {"temperature": 9}
    requests_file.write_text("\n".join(json.dumps(one) for one in lines))
    file = client.files.create(file=requests_file, purpose="batch")
    begun = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    done = wait_for("the batch", lambda: _ended(client.batches.retrieve(begun.id)), 60)
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", 39, 1)
    results = [json.loads(one) for one in client.files.content(done.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in results] == [str(number) for number in range(40) if number != 7]
    assert [one.id for one in client.batches.list()] == [begun.id]
    assert {one.purpose for one in client.files.list()} == {"batch", "batch_output"}
    assert client.files.delete(file.id).deleted


def _ended(batch: Batch) -> Batch | None:
    return batch if batch.status in ("completed", "failed", "cancelled") else None


def test_the_job_of_a_client_that_leaves_is_cancelled(client: OpenAI, api: ApiProcess, real_redis: Redis) -> None:
    with worker(real_redis, Play.run_until_cancelled):
        with pytest.raises(openai.APITimeoutError):
            client.with_options(max_retries=0, timeout=1.0).chat.completions.create(model=MODEL, messages=HI)
        wait_for("the job's end", lambda: statuses(api) == ["cancelled"], TIMEOUT_S)


def statuses(api: ApiProcess) -> list[str]:
    """Without asking for a job itself, which would count as reading it."""
    return [job["status"] for job in requests.get(f"{api.url}/slm/jobs", timeout=TIMEOUT_S).json()["jobs"]]


class GetWeather(BaseModel):
    """Tells the weather of a city."""

    city: str


CALL = ('<tool_call>\n{"name": "GetWeather", "arguments": {', '"city": "Paris"', "}}\n</tool_call>")


def test_calls_of_tools_are_parsed(client: OpenAI, real_redis: Redis) -> None:
    tool = openai.pydantic_function_tool(GetWeather)
    with worker(real_redis, answer(*CALL)):
        done = client.chat.completions.parse(model=MODEL, messages=HI, tools=[tool], tool_choice="required")
    (call,) = done.choices[0].message.tool_calls or ()
    assert call.function.parsed_arguments == GetWeather(city="Paris")
    assert (done.choices[0].finish_reason, done.choices[0].message.content) == ("tool_calls", None)


def test_a_stream_of_calls_has_their_events(client: OpenAI, real_redis: Redis) -> None:
    tool = openai.pydantic_function_tool(GetWeather)
    with (
        worker(real_redis, answer(*CALL)),
        client.chat.completions.stream(model=MODEL, messages=HI, tools=[tool]) as stream,
    ):
        events = list(stream)
    deltas = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert "".join(event.arguments_delta for event in deltas) == done.arguments == '{"city": "Paris"}'
    assert done.parsed_arguments == GetWeather(city="Paris")


def test_a_conversation_with_a_tool(client: OpenAI, real_redis: Redis) -> None:
    def script(play: Play) -> None:
        prompt = play.params.prompt
        assert isinstance(prompt, Conversation)
        last = prompt.messages[-1]
        play.end(f"It says {last['content']}." if last["role"] == "tool" else "".join(CALL))

    tools = [openai.pydantic_function_tool(GetWeather)]
    with worker(real_redis, script):
        first = client.chat.completions.create(model=MODEL, messages=HI, tools=tools).choices[0].message
        assert first.tool_calls
        result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "rain"}
        again = client.chat.completions.create(model=MODEL, messages=[*HI, first, result], tools=tools)
    assert again.choices[0].message.content == "It says rain."


def test_calls_in_responses(client: OpenAI, real_redis: Redis) -> None:
    tools = [openai.pydantic_function_tool(GetWeather)["function"] | {"type": "function"}]
    with worker(real_redis, answer(*CALL)):
        done = client.responses.parse(model=MODEL, input="Hi", tools=tools)
        with client.responses.stream(model=MODEL, input="Hi", tools=tools) as stream:
            deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
            final = stream.get_final_response()
    for response in (done, final):
        (item,) = response.output
        assert item.type == "function_call"
        assert item.arguments == '{"city": "Paris"}'
    assert "".join(deltas) == '{"city": "Paris"}'


def test_conversations(client: OpenAI, story: ScriptedWorker) -> None:
    made = client.conversations.create(items=[{"role": "user", "content": "Hi"}], metadata={"topic": "birds"})
    assert client.conversations.retrieve(made.id).metadata == {"topic": "birds"}
    assert client.conversations.update(made.id, metadata={"topic": "bees"}).metadata == {"topic": "bees"}
    client.chat.completions.create(model=MODEL, messages=HI, extra_body={"conversation": made.id})
    call = {"type": "function_call", "call_id": "c1", "name": "now", "arguments": "{}"}
    added = client.conversations.items.create(made.id, items=[call])  # type: ignore[list-item]
    assert [item.type for item in added.data] == ["function_call"]
    listed = list(client.conversations.items.list(made.id, order="asc", limit=2))  # of two pages
    assert [item.type for item in listed] == ["message", "message", "function_call"]
    answer = client.conversations.items.retrieve(str(listed[1].id), conversation_id=made.id)
    assert answer == listed[1]
    assert answer.type == "message"
    assert [part.text for part in answer.content if part.type == "output_text"] == ["Once upon a time."]
    assert client.conversations.items.delete(str(listed[2].id), conversation_id=made.id).id == made.id
    more = client.responses.create(model=MODEL, input="Well?", conversation=made.id)
    assert more.conversation is not None
    assert more.conversation.id == made.id
    assert len(client.conversations.items.list(made.id).data) == len(listed) - 1 + 2
    assert client.conversations.delete(made.id).deleted
