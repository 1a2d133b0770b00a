"""What there is to say of a route that its URL rule does not say by itself."""

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
EVENTS, HTML = "text/event-stream", "text/html"


class Tag(StrEnum):
    """The groups of the reference, in its order; `TAGS` in `document.py` says what is in each."""

    GENERATE = "Generate"
    JOBS = "Jobs"
    MODEL = "Model"
    OPENAI = "OpenAI"
    BATCHES = "Batches"
    OPERATE = "Operate"
    PAGES = "Pages"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the path, a field of the query, or a request's header. `example` must keep to `schema`."""

    place: Literal["path", "query", "header"]
    name: str
    schema: Schema
    description: str
    example: str | int | None = None


@dataclass(frozen=True, slots=True)
class RequestBody:
    """What a request brings.

    Args:
        model: what checks it.
        example: one that works on every server.
        dialect: how its fields are read.
        is_required: whether an empty body is refused.
        media_type: how it is written.
    """

    model: type[BaseModel]
    example: dict[str, Any]
    dialect: Dialect = SLM
    is_required: bool = True
    media_type: str = JSON


@dataclass(frozen=True, slots=True)
class Answer:
    """A success.

    Args:
        description: when it comes, and what it means.
        model: the JSON body; of a stream of events, the data of each.
        status: the HTTP status.
        media_types: what it can come as; none for an answer without a body.
        example: a body, or the text of a stream.
        headers: names of headers (`headers.py`) that come with it besides those of every answer.
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
        description: what else a caller should know, in Markdown.
        parameters: of path, query and headers.
        body: what a request brings, if it brings something.
        answers: every success.
        errors: every error of its own; those that come with its access and its body are added.
        access: who may use it, where the view itself asks for more than the blueprint's rule.
    """

    id: str
    tag: Tag
    summary: str
    description: str = ""
    parameters: Sequence[Parameter] = ()
    body: RequestBody | None = None
    answers: Sequence[Answer]
    errors: Sequence[type[SLMError]] = field(default=())
    access: Access | None = None


def simple(
    id_: str,
    tag: Tag,
    summary: str,
    answer: Answer,
    *parameters: Parameter,
    errors: Sequence[type[SLMError]] = (),
) -> Operation:
    """A route without a body that has one success."""
    return Operation(id=id_, tag=tag, summary=summary, parameters=parameters, answers=[answer], errors=errors)
