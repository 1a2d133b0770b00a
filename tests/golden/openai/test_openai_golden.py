"""Every answer and stream under /v1, byte by byte, against the files of this folder; see `tests/golden`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from werkzeug import Response

from common.errors import PromptTooLong, WorkerLost
from common.jobs.logprobs import ScoredToken, TokenLogprobs
from tests.api_in_process import MODEL, Api, api_in_process
from tests.fake_redis import fake_redis
from tests.golden import test_golden
from tests.golden.test_golden import machine_learning
from tests.scripted_worker import Play, answer
from tests.unit.api.openai.conftest import chat, complete
from tests.unit.api.openai.test_batches import begin, drive_to_the_end, line
from tests.unit.api.openai.test_files import upload

FOLDER = Path(__file__).parent
CREATED = re.compile(r'("(?:created|[a-z_]+_at)": )\d+')

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]

Start = Callable[..., Api]


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = fake_redis()
    yield client
    client.close()


@pytest.fixture
def start(redis: Redis) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(api_in_process(redis, script, report=test_golden.REPORT))


def check(name: str, response: Response) -> None:
    test_golden.check(name, response, folder=FOLDER, more_masks=[(CREATED, r"\g<1>0")])


def failing(play: Play) -> None:
    play.say("Machine ")
    play.fail(WorkerLost("The job's workers died 3 times; it will not be tried again."))


def calling(play: Play) -> None:
    play.say(
        "I look it up.", "\n<tool_call>\n", '{"name": "weather", "arguments": {"city": ', '"Paris"}}\n</tool_call>'
    )
    play.end('\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>')


@pytest.fixture
def api(start: Start) -> Api:
    return start(machine_learning())


def test_models(api: Api) -> None:
    check("models.json", api.client.get("/v1/models"))
    check("model.json", api.client.get("/v1/models/cuda_lora_out"))


def test_chat(api: Api) -> None:
    check("chat.json", chat(api))
    check("chat.sse", chat(api, stream=True))
    check("chat_usage.sse", chat(api, stream=True, stream_options={"include_usage": True}))


def test_chat_with_several_choices(start: Start) -> None:
    check("chat_choices.json", chat(start(lambda play: play.end("One.", finish_reason="length")), n=2))


def test_chat_with_tools(start: Start) -> None:
    api = start(calling)
    check("chat_tools.json", chat(api, tools=TOOLS))
    check("chat_tools.sse", chat(api, tools=TOOLS, stream=True))


def test_log_probabilities(start: Start) -> None:
    top = (ScoredToken(1, b"One", -0.25), ScoredToken(2, b"Two", -1.5))
    api = start(lambda play: play.end("One", logprobs=[TokenLogprobs(top[0], top)]))
    check("chat_logprobs.json", chat(api, logprobs=True, top_logprobs=2))
    check("completion_logprobs.json", complete(api, logprobs=2))


def test_chat_that_fails(start: Start) -> None:
    check("chat_failed.sse", chat(start(failing), stream=True))


def test_completion(api: Api) -> None:
    check("completion.json", complete(api, prompt=["What", "is"], echo=True))
    check("completion.sse", complete(api, stream=True))


def test_response(api: Api) -> None:
    body = {"model": MODEL, "input": "Hi", "instructions": "Be brief", "metadata": {"a": "b"}}
    check("response.json", api.client.post("/v1/responses", json=body))
    check("response.sse", api.client.post("/v1/responses", json=body | {"stream": True}))


def test_response_in_the_background(api: Api) -> None:
    with api.worker.busy():
        begun = api.client.post("/v1/responses", json={"model": MODEL, "input": "Hi", "background": True})
    check("response_queued.json", begun)
    url = f"/v1/responses/{begun.json['id']}?stream=true"
    api.client.get(url).get_data()  # after its end, no queue position comes in between
    check("response_resumed.sse", api.client.get(f"{url}&starting_after=6"))


def test_response_with_tools(start: Start) -> None:
    api = start(calling)
    body = {"model": MODEL, "input": "Hi", "tools": [{"type": "function", **TOOLS[0]["function"]}]}
    check("response_tools.json", api.client.post("/v1/responses", json=body))
    check("response_tools.sse", api.client.post("/v1/responses", json=body | {"stream": True}))


def test_a_kept_response(api: Api) -> None:
    first = api.client.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).json["id"]
    body = {"model": MODEL, "input": "And?", "previous_response_id": first}
    second = api.client.post("/v1/responses", json=body).json["id"]
    check("response_input_items.json", api.client.get(f"/v1/responses/{second}/input_items?limit=2"))
    check("response_input_tokens.json", api.client.post("/v1/responses/input_tokens", json=body))
    check("response_deleted.json", api.client.delete(f"/v1/responses/{second}"))


def test_response_that_fails(start: Start) -> None:
    failed = start(failing).client.post("/v1/responses", json={"model": MODEL, "input": "Hi", "stream": True})
    check("response_failed.sse", failed)


def test_files(api: Api) -> None:
    kept = upload(api, b"{}\n")
    check("file.json", kept)
    check("files.json", api.client.get("/v1/files"))
    check("file_deleted.json", api.client.delete(f"/v1/files/{kept.json['id']}"))
    check("error_file_not_found.json", api.client.get("/v1/files/file-x"))


def test_batches(api: Api) -> None:
    begun = begin(api, line("a"), line("b", temperature=9), metadata={"a": "b"})
    check("batch.json", begun)
    ended = drive_to_the_end(api, begun.json["id"])
    check("batch_completed.json", api.client.get(f"/v1/batches/{ended['id']}"))
    check("batch_output.json", api.client.get(f"/v1/files/{ended['output_file_id']}/content"))
    check("batch_errors.json", api.client.get(f"/v1/files/{ended['error_file_id']}/content"))
    check("batches.json", api.client.get("/v1/batches"))


def test_a_batch_that_fails(api: Api) -> None:
    ended = drive_to_the_end(api, begin(api, line("a"), line("a")).json["id"])
    check("batch_failed.json", api.client.get(f"/v1/batches/{ended['id']}"))


def test_errors(start: Start, api: Api) -> None:
    check("error_model_not_found.json", chat(api, model="gpt-5"))
    check("error_not_supported.json", complete(api, audio={}))
    check("error_nested.json", chat(api, messages=[{"role": "tool", "content": "x"}]))
    check("error_not_found.json", api.client.get("/v1/nothing"))
    check("error_method_not_allowed.json", api.client.get("/v1/completions"))


def test_a_prompt_that_is_too_long(start: Start) -> None:
    too_long = PromptTooLong("The prompt has 9 tokens, but the context holds 8.", param="prompt")
    check("error_context_length.json", chat(start(lambda play: play.fail(too_long))))


def test_conversations(api: Api) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "Sunny"}
    items = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, call, output]
    made = api.client.post("/v1/conversations", json={"items": items, "metadata": {"a": "b"}})
    check("conversation.json", made)
    path = f"/v1/conversations/{made.json['id']}"
    listed = api.client.get(f"{path}/items?order=asc")
    check("conversation_items.json", listed)
    check("conversation_item.json", api.client.get(f"{path}/items/{listed.json['first_id']}"))
    check("conversation_deleted.json", api.client.delete(path))


def test_no_golden_file_is_left_over() -> None:
    source = Path(__file__).read_text("utf-8")
    for file in FOLDER.glob("*.[js]s*"):
        assert f'"{file.name}"' in source, f"{file.name} is compared with nothing"


def test_embeddings(start: Start) -> None:
    api = start(answer("x"))
    api.worker.serve_embeddings()
    body = {"model": "tiny-encoder", "input": ["a", "abc"]}
    check("embeddings.json", api.client.post("/v1/embeddings", json=body))
    check("embeddings_base64.json", api.client.post("/v1/embeddings", json=body | {"encoding_format": "base64"}))
    check("error_embedding.json", api.client.post("/v1/embeddings", json=body | {"input": ["a", "b" * 33]}))


def test_embeddings_without_a_model(start: Start) -> None:
    check("error_no_encoder.json", start(answer("x")).client.post("/v1/embeddings", json={"input": "a"}))
