"""The classes with which routes are described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel

from api.auth.access import Access
from api.schemas.parsing import SLM, Dialect
from common.errors import SLMError

Schema = dict[str, Any]  # a JSON schema
JSON, BYTES, FORM = "application/json", "application/octet-stream", "multipart/form-data"
EVENTS, LINES, HTML = "text/event-stream", "application/x-ndjson", "text/html"


class Tag(StrEnum):
    """The groups of the reference, in order; `TAGS` in `document.py` describes them."""

    GENERATE = "Generate"
    JOBS = "Jobs"
    CONVERSATIONS = "Conversations"
    MODEL = "Model"
    ADAPTERS = "Adapters"
    DATASETS = "Datasets"
    TRAIN = "Train"
    OPENAI = "OpenAI"
    OLLAMA = "Ollama"
    ANTHROPIC = "Anthropic"
    BATCHES = "Batches"
    OPERATE = "Operate"
    PAGES = "Pages"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the path, a field of the query, or a request header. `example` must match `schema`."""

    location: Literal["path", "query", "header"]
    name: str
    schema: Schema
    description: str
    example: str | int | None = None


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The body of a request.

    Args:
        model: the model that validates it.
        example: a body that works on every server.
        dialect: the rules by which it is parsed.
        is_required: whether an empty body is rejected.
        media_type: its content type.
        raw_types: content types of a body that is a file, if that is possible, too.
    """

    model: type[BaseModel]
    example: dict[str, Any]
    dialect: Dialect = SLM
    is_required: bool = True
    media_type: str = JSON
    raw_types: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SuccessResponse:
    """A successful response.

    Args:
        description: when it is sent, and what it means.
        model: the JSON body; for a stream, the data of each event.
        status: the HTTP status.
        media_types: its possible content types; none for a response without a body.
        example: a body, or the text of a stream.
        headers: names of its headers (`headers.py`) in addition to those of every response.
    """

    description: str
    model: type | None = None
    status: int = 200
    media_types: Sequence[str] = (JSON,)
    example: Any = None
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route.

    Args:
        id: its name in generated clients.
        tag: its group.
        summary: what it does, in one line.
        description: further information for callers, in Markdown.
        parameters: of path, query and headers.
        body: the body of the request, if it has one.
        responses: every success.
        errors: its own errors; those of its access rule and its body are added.
        access: who may use it, if the view checks more than the blueprint's rule.
    """

    id: str
    tag: Tag
    summary: str
    description: str = ""
    parameters: Sequence[Parameter] = ()
    body: RequestBody | None = None
    responses: Sequence[SuccessResponse]
    errors: Sequence[type[SLMError]] = field(default=())
    access: Access | None = None


def simple(
    id_: str,
    tag: Tag,
    summary: str,
    success: SuccessResponse,
    *parameters: Parameter,
    errors: Sequence[type[SLMError]] = (),
) -> Operation:
    """Describe a route without a body that has one successful response."""
    return Operation(id=id_, tag=tag, summary=summary, parameters=parameters, responses=[success], errors=errors)
