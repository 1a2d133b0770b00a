"""Builds the OpenAPI document of an application."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from api import __version__
from api.auth.access import Access, access_of
from api.error_shapes import SHAPES, SLM, shape_of
from api.reference import headers
from api.reference.adapter_operations import ADAPTER_OPERATIONS
from api.reference.anthropic_operations import ANTHROPIC_OPERATIONS
from api.reference.batch_operations import BATCH_OPERATIONS
from api.reference.conversation_operations import CONVERSATION_OPERATIONS
from api.reference.dataset_operations import DATASET_OPERATIONS
from api.reference.error_models import BODY, GATE, OF_EVERY, error_responses
from api.reference.key_operations import KEY_OPERATIONS
from api.reference.llama_cpp_operations import LLAMA_CPP_OPERATIONS
from api.reference.ollama_operations import OLLAMA_OPERATIONS
from api.reference.openai_operations import OPENAI_OPERATIONS
from api.reference.operation import BYTES, EVENTS, JSON, Operation, Parameter, RequestBody, Schema, SuccessResponse, Tag
from api.reference.schema_writer import REF, component_schemas
from api.reference.server_operations import SERVER_OPERATIONS
from api.reference.slm_operations import SLM_OPERATIONS
from api.reference.training_operations import TRAINING_OPERATIONS
from api.reference.vllm_operations import VLLM_OPERATIONS
from api.schemas.jobs import Webhook
from common.errors import HeadTooLarge, SLMError

Json = dict[str, Any]

OPERATIONS: dict[str, Operation] = (
    SLM_OPERATIONS
    | ADAPTER_OPERATIONS
    | CONVERSATION_OPERATIONS
    | DATASET_OPERATIONS
    | TRAINING_OPERATIONS
    | OPENAI_OPERATIONS
    | VLLM_OPERATIONS
    | LLAMA_CPP_OPERATIONS
    | OLLAMA_OPERATIONS
    | ANTHROPIC_OPERATIONS
    | BATCH_OPERATIONS
    | KEY_OPERATIONS
    | SERVER_OPERATIONS
)  # by endpoint
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]
TAGS = {
    Tag.GENERATE: "Generate answers, whole or as streams.",
    Tag.JOBS: "Every request for work becomes a job, which can be shown, streamed from anywhere, and cancelled.",
    Tag.CONVERSATIONS: "Conversations that the server keeps: trees of messages, with the answers of jobs.",
    Tag.MODEL: "The model and the workers.",
    Tag.ADAPTERS: "Everything that a request can name: base models, adapters and their versions, aliases.",
    Tag.DATASETS: "What models are trained on, and what people say about their answers.",
    Tag.TRAIN: "Train adapters from datasets, judge them, and compare models.",
    Tag.OPENAI: "The same for clients of OpenAI's API.",
    Tag.OLLAMA: "The same for clients of Ollama's API.",
    Tag.ANTHROPIC: "The same for clients of Anthropic's API.",
    Tag.BATCHES: "Files of requests that run as bulk jobs.",
    Tag.OPERATE: "Health, metrics, API keys, settings, what operators did, and jobs that were set aside.",
    Tag.PAGES: "Pages for people.",
}
_REQUIRED = {
    Access.ADMIN: "Requires an admin's key.",
    Access.TRAINER: "Requires the key of an admin, or one with the role `trainer`.",
}
_PATH_PART = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")


def build(app: Flask) -> Json:
    """Return the OpenAPI document. Routes without an `Operation` are omitted."""
    paths: dict[str, Json] = {}
    for rule in app.url_map.iter_rules():
        if (operation := OPERATIONS.get(rule.endpoint)) is not None:
            access = operation.access or access_of(app, rule.endpoint) or Access.ADMIN
            paths.setdefault(_path(rule), {})[_method(rule)] = _operation(rule, operation, access)
    return {
        "openapi": "3.1.1",
        "info": _info(),
        "servers": [{"url": "/"}],
        "tags": [{"name": tag.value, "description": text} for tag, text in TAGS.items()],
        "paths": dict(sorted(paths.items(), key=_group_order)),
        "webhooks": {"jobEnded": {"post": _webhook()}},
        "components": _components(),
    }


def _info() -> Json:
    return {
        "title": "SLM server",
        "version": __version__,
        "summary": "Serves a small language model with a LoRA adapter through a queue",
        "description": (
            "Every request for work becomes a job, which survives the death of its worker and has a stream that can "
            "be resumed after any event. A server without API keys requires none."
        ),
        "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    }


def _path(rule: Rule) -> str:
    return _PATH_PART.sub(r"{\1}", rule.rule)


def _method(rule: Rule) -> str:
    (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}  # Flask adds these by itself
    return method.lower()


def _group_order(item: tuple[str, Json]) -> int:
    """Return the sort key of a path: its group, then its order in the registry."""
    ids = [operation.id for tag in Tag for operation in OPERATIONS.values() if operation.tag is tag]
    return min(ids.index(operation["operationId"]) for operation in item[1].values())


def _operation(rule: Rule, operation: Operation, access: Access) -> Json:
    required = _REQUIRED.get(access, "")
    written: Json = {
        "operationId": operation.id,
        "tags": [operation.tag.value],
        "summary": operation.summary,
        "description": " ".join(filter(None, [operation.description, required])),
        "security": [] if access is Access.PUBLIC else SECURITY,
        "parameters": [_parameter(one) for one in (*operation.parameters, headers.REQUEST_ID)],
        "responses": _successes(rule, operation, access) | _failures(rule, operation, access),
    }
    return written if operation.body is None else written | {"requestBody": _body(operation.body)}


def _parameter(parameter: Parameter) -> Json:
    written = {
        "in": parameter.location,
        "name": parameter.name,
        "description": parameter.description,
        "required": parameter.location == "path",
        "schema": parameter.schema,
    }
    return written if parameter.example is None else written | {"example": parameter.example}


def _body(body: RequestBody) -> Json:
    content: Json = {body.media_type: {"schema": _ref(body.model), "example": body.example}}
    content |= {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in body.raw_types}
    return {"required": body.is_required, "content": content}


def _ref(model: type) -> Schema:
    return {"$ref": REF.format(model=model.__name__)}


def _is_limited(rule: Rule, access: Access) -> bool:
    """Return whether requests to the route count against the key's rate limit for new work."""
    return _method(rule) == "post" and access is not Access.PUBLIC


def _successes(rule: Rule, operation: Operation, access: Access) -> Json:
    """Return the response objects by status; responses with the same status differ in their media types."""
    of_limits = headers.RATE if _is_limited(rule, access) else ()
    written: Json = {}
    for success in operation.responses:
        response = written.setdefault(str(success.status), {"description": "", "headers": {}})
        response["description"] = "\n\n".join(filter(None, [response["description"], success.description]))
        for name in (*headers.ALWAYS, *success.headers, *of_limits):
            response["headers"][name] = {"$ref": f"#/components/headers/{name}"}
        for media_type in success.media_types:
            response.setdefault("content", {})[media_type] = _content(success, media_type)
    return written


def _content(success: SuccessResponse, media_type: str) -> Json:
    schema: Schema = {"type": "object" if media_type == JSON else "string"}
    if media_type == BYTES:
        schema["format"] = "binary"
    if success.model is not None:
        schema = _event(success.model) if media_type == EVENTS else _ref(success.model)
    if success.example is None:
        return {"schema": schema}
    # The schema of a stream describes one event, but its example is a whole stream.
    return {"schema": schema, "x-example" if media_type == EVENTS else "example": success.example}


def _event(model: type) -> Schema:
    """Return the schema of one event of a stream, because OpenAPI 3.1 cannot describe the whole."""
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": _ref(model)}
    return {"type": "object", "properties": {"id": {"type": "string"}, "data": data}, "required": ["data"]}


def _failures(rule: Rule, operation: Operation, access: Access) -> Json:
    shape = shape_of(rule.rule)
    kinds: set[type[SLMError]] = {*OF_EVERY, *operation.errors}
    if shape is SLM:  # this error occurs before the path is known, and always has the form of `/slm`
        kinds.add(HeadTooLarge)
    if access is not Access.PUBLIC:
        kinds |= {*GATE}
    if operation.body is not None:
        kinds |= {*BODY}
    return error_responses(kinds, shape)


def _webhook() -> Json:
    return {
        "operationId": "jobEnded",
        "security": [],
        "tags": [Tag.JOBS.value],
        "summary": "A job with a `webhook_url` has ended",
        "description": "Signed as in Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.",
        "requestBody": {"required": True, "content": {JSON: {"schema": _ref(Webhook)}}},
        "responses": {
            "2XX": {"description": "Delivered; after any other response there are up to five more attempts."}
        },
    }


@cache
def _components() -> Json:
    """Return what all applications have in common, which takes most of the time."""
    bodies = {one.body.model: one.body for one in OPERATIONS.values() if one.body is not None}
    responses = {success.model for one in OPERATIONS.values() for success in one.responses if success.model is not None}
    models_sent: set[type] = {*responses, *(shape.model for shape in SHAPES), Webhook}
    return {
        "schemas": component_schemas(bodies.values(), sorted(models_sent, key=lambda model: model.__name__)),
        "headers": {
            name: {"description": text, "schema": schema} for name, (schema, text) in headers.RESPONSE_HEADERS.items()
        },
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, such as `slm_…`."},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
        },
    }
