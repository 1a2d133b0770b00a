"""The OpenAPI document: complete, valid, and true."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import TypeAdapter
from redis import Redis
from werkzeug.routing import Rule

from api.auth.access import Access, access_of
from api.reference.document import OPERATIONS, build
from api.reference.meanings import meanings_in
from api.reference.ollama_operations import EXAMPLE_ENCODER
from api.schemas.anthropic.responses import AnthropicAnswer, AnthropicError, AnthropicFrame, TokenCount
from api.schemas.audit import AuditEntries
from api.schemas.conversations import (
    ConversationDeleted,
    ConversationList,
    ConversationSaved,
    ConversationThread,
    ExportedConversation,
    MessageSaved,
    MessagesDeleted,
)
from api.schemas.datasets import DatasetReport, Report
from api.schemas.errors import Error, OpenAIError
from api.schemas.feedback import DeletedFeedback, FeedbackDataset, FeedbackList, ShownFeedback
from api.schemas.frames import Frame
from api.schemas.generated import Generated
from api.schemas.jobs import Accepted, Account, Cancellation, Job, JobList, Quarantine, Webhook
from api.schemas.keys import KeyList, NewKey, RevokedKey, ShownKey
from api.schemas.ollama.responses import (
    OllamaChat,
    OllamaChatLine,
    OllamaEmbedded,
    OllamaEmbedding,
    OllamaError,
    OllamaGenerated,
    OllamaGeneratedLine,
    OllamaLoadedList,
    OllamaShown,
    OllamaTags,
    OllamaVersion,
)
from api.schemas.openai.batches import BatchList, BatchObject
from api.schemas.openai.chat import ChatCompletion, ChatFrame
from api.schemas.openai.completions import Completion, CompletionFrame
from api.schemas.openai.conversations import ConversationObject, DeletedConversation, ItemList, ShownItem
from api.schemas.openai.embeddings import EmbeddingList
from api.schemas.openai.files import DeletedFile, FileList, FileObject
from api.schemas.openai.models import ModelList, ModelObject
from api.schemas.openai.responses import DeletedResponse, InputItemList, InputTokens, ResponseFrame, ResponseObject
from api.schemas.server import Health, Info, ModelChanged
from api.schemas.tokens import Tokens
from common.owners.api_keys import ApiKeyStore, Role
from common.owners.files import FileStore
from common.settings import ROOT
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import ENCODER
from tests.unit.api import test_bad_input
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai import test_input, test_responses

GOLDEN = ROOT / "tests" / "golden"
NOT_DESCRIBED = {"static", "worker_files"}  # pages; for the server's own workers

Json = dict[str, Any]


@pytest.fixture
def app(api: Api) -> Flask:
    return api.client.application


@pytest.fixture(scope="module")
def document(_lasting_api: Api) -> Json:
    return dict(_lasting_api.client.get("/openapi.json").json)


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def described_as(rule: Rule) -> tuple[str, str]:
    """Method and path of a route in the document."""
    [method] = (rule.methods or set()) - {"HEAD", "OPTIONS"}
    return method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


# -- complete ----------------------------------------------------------------------------------------------------------


def is_described(rule: Rule) -> bool:
    return NOT_DESCRIBED.isdisjoint({rule.endpoint, rule.endpoint.partition(".")[0]})


def test_every_route_is_in_the_document_and_nothing_else_is(app: Flask, document: Json) -> None:
    routes = {described_as(rule) for rule in app.url_map.iter_rules() if is_described(rule)}
    assert {(method, path) for method, path, _ in operations(document)} == routes


def test_nothing_that_does_not_exist_is_described(app: Flask) -> None:
    assert OPERATIONS.keys() - {rule.endpoint for rule in app.url_map.iter_rules()} == set()


def test_every_part_of_a_path_is_described(document: Json) -> None:
    for method, path, operation in operations(document):
        described = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path)), (method, path)


def test_every_field_of_a_body_says_what_it_means(document: Json) -> None:
    models = {one.id: one.body.model for one in OPERATIONS.values() if one.body is not None}
    for _, path, operation in operations(document):
        if "requestBody" in operation:
            _, content = described_body(operation)
            schema = content["schema"]
            meanings = meanings_in(models.values()) | meanings_in([models[operation["operationId"]]])
            fields = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
            assert fields.keys() - meanings.keys() == set(), path
            assert [name for name, one in fields.items() if meanings[name] not in one["description"]] == []


def test_every_group_is_described_and_used(document: Json) -> None:
    used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}


# -- valid -------------------------------------------------------------------------------------------------------------


def test_it_is_valid_openapi(document: Json) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_no_schema_is_left_over(document: Json) -> None:
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert referred == document["components"]["schemas"].keys()


def test_the_names_of_operations_differ(document: Json) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))


def test_it_is_written_once(api: Api) -> None:
    assert api.client.get("/openapi.json").data == api.client.get("/openapi.json").data
    assert api.client.get("/openapi.json").json == json.loads(json.dumps(build(api.client.application)))


# -- exact -------------------------------------------------------------------------------------------------------------

CHAT = {"model": "gpt2", "messages": [{"role": "user", "content": "Hi"}]}
WRONG: dict[str, tuple[Json, dict[str, list[Any]]]] = {
    "GenerateBody": ({"prompt": "Hi"}, test_bad_input.wrong_values()),
    "ChatBody": (CHAT, test_input.CHAT),
    "CompletionBody": ({"model": "gpt2", "prompt": "Hi"}, test_input.COMPLETION),
    "ResponseBody": ({"model": "gpt2", "input": "Hi"}, test_responses.WRONG),
}


def is_beyond_json_schema(field: str, value: Any) -> bool:
    """Whether JSON Schema cannot express what is wrong with the value.

    Lone surrogates, the depth and the length of nested values, a rule about another field; and a line
    end after a number, which Python's `$` ignores.
    """
    text = json.dumps(value)
    return (
        "\\ud" in text
        or len(text) > 65_536
        or text.count("{") > 100
        or (field == "min_new_tokens" and value == 101)
        or (field == "continue_final_message" and value is True)
        or (field in ("tool_choice", "function_call") and (value == "required" or '"name": "x"' in text))  # of no tool
        or (field == "tools" and text.count('"name": "f"') == 2)
        or (field == "seed" and isinstance(value, float))
        or (field == "logit_bias" and value == {"1\n": 1})
    )


@pytest.mark.parametrize("name", WRONG)
def test_refused_bodies_are_invalid_in_the_reference(document: Json, name: str) -> None:
    base, table = WRONG[name]
    validator = schema_of(document, {"$ref": f"#/components/schemas/{name}"})
    taken = [
        {field: value}
        for field, values in table.items()
        for value in values
        if not is_beyond_json_schema(field, value) and validator.is_valid(base | {field: value})
    ]
    assert taken == []
    assert not validator.is_valid(base | {"x": 1})


def test_accepted_bodies_are_valid_in_the_reference(document: Json) -> None:
    validator = schema_of(document, {"$ref": "#/components/schemas/GenerateBody"})
    refused = [
        {field: value}
        for field, values in test_bad_input.RIGHT.items()
        for value in values
        if not validator.is_valid({"prompt": "Hi"} | {field: value})
    ]
    assert refused == []


@pytest.mark.parametrize(
    ("name", "nested"),
    [
        ("ChatBody", {"messages": [{"role": "user", "content": []}]}),
        ("ChatBody", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]}),
        ("ChatBody", {"messages": [{"role": "user", "content": "a", "audio": {}}]}),
        ("ChatBody", {"messages": [{"role": "user", "content": "a", "a b": 1}]}),
        ("ChatBody", {"messages": [{"role": "a b", "content": "a"}]}),
        ("ChatBody", {"response_format": {"type": "json_schema"}}),
        ("ChatBody", {"response_format": {"type": "text", "json_schema": {"schema": {}}}}),
        ("ResponseBody", {"text": {"format": {"type": "json_schema", "schema": {}}}}),
        ("ResponseBody", {"text": {"format": {"type": "text", "name": "a"}}}),
        ("ChatBody", {"webhook_url": ""}),
        ("CompletionBody", {"webhook_url": "ftp://example.org"}),
        ("ResponseBody", {"webhook_url": "http://user@example.org"}),
        ("TokenizeBody", {"messages": []}),
        ("TokenizeBody", {"x": 1}),
        ("ModelBody", {"x": 1}),
    ],
)
def test_nested_values_are_described_and_refused_alike(
    shared_api: Api, document: Json, name: str, nested: Json
) -> None:
    paths = {"ChatBody": "/v1/chat/completions", "CompletionBody": "/v1/completions", "ResponseBody": "/v1/responses"}
    path = paths | {"TokenizeBody": "/slm/tokenize", "ModelBody": "/slm/load"}
    body = (WRONG[name][0] if name in WRONG else {}) | nested
    assert not schema_of(document, {"$ref": f"#/components/schemas/{name}"}).is_valid(body)
    assert shared_api.client.post(path[name], json=body).status_code == 400


# -- true --------------------------------------------------------------------------------------------------------------


def schema_of(document: Json, schema: Json) -> Draft202012Validator:
    """A validator of a part of the document."""
    return Draft202012Validator(schema | {"components": document["components"]})


def contents(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Every body of a request or an answer: its location, media type and media type object."""
    for method, path, operation in operations(document):
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media_type, content in itertools.chain.from_iterable(part.get("content", {}).items() for part in parts):
            yield f"{method} {path}", media_type, content


def test_every_example_matches_its_schema(document: Json) -> None:
    checked = 0
    for where, media_type, content in contents(document):
        if media_type == "application/json" and "example" in content:
            errors = list(schema_of(document, content["schema"]).iter_errors(content["example"]))
            assert errors == [], where
            checked += 1
    assert checked >= 10


@pytest.mark.parametrize("operation_id", [one.id for one in OPERATIONS.values() if one.body is not None])
def test_the_example_of_a_body_works(start_api: StartApi, document: Json, data_dir: Path, operation_id: str) -> None:
    api = start_api(data_dir=data_dir)
    found = [one for one in operations(document) if one[2]["operationId"] == operation_id]
    [(method, path, operation)] = found
    media_type, content = described_body(operation)
    examples = {one["name"]: one["example"] for one in operation["parameters"] if "example" in one}
    query = {name: example for name, example in examples.items() if f"{{{name}}}" not in path}
    sent = as_sent(api, media_type, content["example"])
    if "job_id" in examples or operation_id == "makeDatasetOfFeedback":
        examples["job_id"] = judged_job(api)
    if "conversation_id" in examples:
        examples |= {name: value for name, value in begun_conversation(api).items() if name in examples}
    if operation_id in ("createKey", "changeKey"):  # without an admin's key, nobody could manage keys any more
        sent |= {"headers": {"X-API-Key": ApiKeyStore(api.redis).create("root", Role.ADMIN)}}
        if operation_id == "changeKey":
            ApiKeyStore(api.redis).create(examples["key_name"], Role.USER)
    answer = api.client.open(path.format_map(examples), method=method, query_string=query, **sent)
    assert answer.status_code in (200, 201, 202), answer.text


def judged_job(api: Api) -> str:
    """The id of an ended job with feedback."""
    job_id: str = api.client.post("/slm/generate", json={"prompt": "Hi"}).json["job_id"]
    said = {"correction": "Ho", "tags": ["geography"]}
    assert api.client.post(f"/slm/jobs/{job_id}/feedback", json=said).status_code == 200
    return job_id


def begun_conversation(api: Api) -> dict[str, str]:
    """The ids of a conversation and of its only message."""
    conversation_id = api.client.post("/slm/conversations").json["id"]
    said = {"role": "user", "content": "Hi"}
    message = api.client.post(f"/slm/conversations/{conversation_id}/messages", json=said)
    return {"conversation_id": conversation_id, "message_id": message.json["id"]}


def described_body(operation: Json) -> tuple[str, Json]:
    """The media type and content of a request with fields; the body can also be a bare file."""
    contents = operation["requestBody"]["content"]
    [found] = [(media_type, content) for media_type, content in contents.items() if "$ref" in content["schema"]]
    return found


def as_sent(api: Api, media_type: str, example: Json) -> Json:
    """The example with the names of an existing model and file."""
    if media_type == "multipart/form-data":
        return {"data": example | {"file": (io.BytesIO(example["file"].encode()), "a.jsonl")}}
    api.worker.serve_embeddings()
    names = {EXAMPLE_ENCODER: ENCODER.model}
    known: Json = {"model": names.get(example["model"], MODEL)} if "model" in example else {}
    if "training_file" in example:
        lines = ['{"prompt": "a", "completion": "b"}', '{"prompt": "c", "completion": "d"}']
        known["training_file"] = FileStore(api.redis, ttl_s=60).put("anonymous", "a.jsonl", "fine-tune", lines).id
    if "models" in example:
        known["models"] = [MODEL]
    if "input_file_id" in example:
        file = {"purpose": "batch", "file": (io.BytesIO(b"{}"), "a.jsonl")}
        known["input_file_id"] = api.client.post("/v1/files", data=file).json["id"]
    return {"json": example | known}


def test_security_is_what_the_gate_does(app: Flask, document: Json) -> None:
    asks_by_itself = {"metrics.show_metrics"}
    for rule in app.url_map.iter_rules():
        if is_described(rule):
            [operation] = [one for one in operations(document) if one[:2] == described_as(rule)]
            is_open = access_of(app, rule.endpoint) is Access.PUBLIC and rule.endpoint not in asks_by_itself
            assert (operation[2]["security"] == []) is is_open, rule
            assert ("401" in operation[2]["responses"]) is not is_open, rule


def test_the_reference_needs_no_key(api: Api, redis: Redis) -> None:
    ApiKeyStore(redis).create("ann", Role.USER)
    assert api.client.get("/slm/info").status_code == 401
    assert api.client.get("/openapi.json").status_code == 200
    page = api.client.get("/docs")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    page.close()


ANSWERS: dict[str, type] = {
    "accepted": Accepted,
    "audit": AuditEntries,
    "cancel": Cancellation,
    "check_dataset": DatasetReport,
    "conversation": ConversationThread,
    "conversation_deleted": ConversationDeleted,
    "conversation_export": ExportedConversation,
    "conversation_message": MessageSaved,
    "conversation_message_deleted": MessagesDeleted,
    "conversation_saved": ConversationSaved,
    "conversations": ConversationList,
    "conversations_found": ConversationList,
    "feedback": ShownFeedback,
    "feedback_dataset": FeedbackDataset,
    "feedback_list": FeedbackList,
    "feedback_deleted": DeletedFeedback,
    "generate": Generated,
    "healthz": Health,
    "info": Info,
    "info_no_worker": Info,
    "job": Job,
    "job_failed": Job,
    "jobs": JobList,
    "key_changed": ShownKey,
    "key_created": NewKey,
    "key_revoked": RevokedKey,
    "keys": KeyList,
    "load": ModelChanged,
    "quarantine": Quarantine,
    "readyz": Health,
    "readyz_loading": Error,
    "tokenize": Tokens,
    "detokenize": Tokens,
    "unload": ModelChanged,
    "usage": Account,
    "webhook": Webhook,
    "anthropic/message": AnthropicAnswer,
    "anthropic/message_tools": AnthropicAnswer,
    "anthropic/count_tokens": TokenCount,
    "ollama/chat": OllamaChat,
    "ollama/chat_tools": OllamaChat,
    "ollama/generate": OllamaGenerated,
    "ollama/ps": OllamaLoadedList,
    "ollama/embed": OllamaEmbedded,
    "ollama/embeddings": OllamaEmbedding,
    "ollama/show": OllamaShown,
    "ollama/show_encoder": OllamaShown,
    "ollama/tags": OllamaTags,
    "ollama/version": OllamaVersion,
    "openai/batch": BatchObject,
    "openai/batch_completed": BatchObject,
    "openai/batch_failed": BatchObject,
    "openai/batches": BatchList,
    "openai/conversation": ConversationObject,
    "openai/conversation_deleted": DeletedConversation,
    "openai/conversation_item": ShownItem,
    "openai/conversation_items": ItemList,
    "openai/file": FileObject,
    "openai/file_deleted": DeletedFile,
    "openai/files": FileList,
    "openai/chat": ChatCompletion,
    "openai/chat_choices": ChatCompletion,
    "openai/chat_logprobs": ChatCompletion,
    "openai/chat_tools": ChatCompletion,
    "openai/completion_logprobs": Completion,
    "openai/completion": Completion,
    "openai/embeddings": EmbeddingList,
    "openai/embeddings_base64": EmbeddingList,
    "openai/model": ModelObject,
    "openai/models": ModelList,
    "openai/response_deleted": DeletedResponse,
    "openai/response_input_items": InputItemList,
    "openai/response_input_tokens": InputTokens,
    "openai/response": ResponseObject,
    "openai/response_tools": ResponseObject,
    "openai/response_queued": ResponseObject,
}
# by folder:
ERRORS: dict[str, type] = {"": Error, "openai": OpenAIError, "ollama": OllamaError, "anthropic": AnthropicError}
LINES: dict[str, type] = {
    "ollama/chat": OllamaChatLine,
    "ollama/chat_tools": OllamaChatLine,
    "ollama/generate": OllamaGeneratedLine,
}
LINES_OF_FILES = {"openai/batch_output", "openai/batch_errors"}
STREAMS: dict[str, type] = {
    "stream": Frame,
    "anthropic/message": AnthropicFrame,
    "openai/chat": ChatFrame,
    "openai/chat_logprobs": ChatCompletion,
    "openai/completion_logprobs": Completion,
    "openai/completion": CompletionFrame,
    "openai/response": ResponseFrame,
}


def golden(suffix: str) -> list[str]:
    names = {str(file.relative_to(GOLDEN).with_suffix("")) for file in GOLDEN.rglob(f"*.{suffix}")}
    return sorted(names - LINES_OF_FILES)


def read(name: str) -> str:
    return (GOLDEN / name).read_text("utf-8").replace("<time>", "2026-03-22T23:59:58.123Z")


def model_of_answer(name: str) -> type:
    folder, _, file = name.rpartition("/")
    if folder == "datasets":
        return Report
    return ERRORS[folder] if file.startswith("error_") else ANSWERS[name]


@pytest.mark.parametrize("name", golden("json"))
def test_an_answer_has_the_fields_that_are_described_and_no_others(name: str) -> None:
    TypeAdapter(model_of_answer(name)).validate_json(read(f"{name}.json"))


@pytest.mark.parametrize("name", golden("ndjson"))
def test_a_line_has_the_fields_that_are_described_and_no_others(name: str) -> None:
    model = TypeAdapter(LINES[name])
    for line in read(f"{name}.ndjson").splitlines():
        model.validate_json(line)


@pytest.mark.parametrize("name", golden("sse"))
def test_an_event_has_the_fields_that_are_described_and_no_others(name: str) -> None:
    model = TypeAdapter(STREAMS[name.partition("_")[0]])
    frames = [line.removeprefix("data: ") for line in read(f"{name}.sse").splitlines() if line.startswith("data: ")]
    assert frames != []
    for frame in frames:
        if frame != "[DONE]":
            model.validate_json(frame)
