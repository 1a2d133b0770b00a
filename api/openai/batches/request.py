"""Parses and checks the requests of a batch, one per line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pydantic import Field

from api.openai.batches.line_routes import EMBEDDINGS, SCHEMAS, LineBody
from api.schemas.json_object import json_object
from api.schemas.openai.batches import LineError
from api.schemas.parsing import OPENAI, parse
from api.schemas.strict import Strict
from common.adapters.names import DEFAULT_ALIAS
from common.errors import InvalidRequest

MAX_LINES = 50_000
MAX_INPUTS = 50_000  # of embeddings, as OpenAI's: Redis keeps all vectors until the batch has ended
MAX_ERRORS = 100  # reported about a rejected file

_NOT_IN_BATCHES = ("stream", "stream_options", "priority", "on_disconnect", "webhook_url", "conversation")


class BatchLine(Strict):
    """One line of a batch's file."""

    custom_id: str = Field(min_length=1, max_length=512, description="a non-empty string of at most 512 characters")
    method: Literal["POST"] = Field(description='"POST"')
    url: str = Field(description="the endpoint of the batch")
    body: dict[str, Any] = Field(description="an object")


def read_line(text: str) -> BatchLine:
    """Parse a line. Raises `InvalidRequest`."""
    return parse(BatchLine, json_object(text.encode()), OPENAI)


def read_request(line: BatchLine) -> LineBody:
    """Parse the request in a line that was checked before. Raises `InvalidRequest`."""
    body: Strict = parse(SCHEMAS[line.url], line.body, OPENAI)
    for name in _NOT_IN_BATCHES:
        if name in body.model_fields_set:
            raise InvalidRequest(f"{name} cannot be used in a batch", param=name)
    return cast(LineBody, body)


@dataclass(slots=True)
class CheckedLines:
    """The number of requests in a file and of their inputs, the names of their models, and the errors in the lines."""

    total: int = 0
    inputs: int = 0
    models: set[str] = field(default_factory=set)
    errors: list[LineError] = field(default_factory=list)


def check_lines(lines: Iterable[tuple[int, str]], endpoint: str) -> CheckedLines:
    """Check the lines of a file; blank lines do not count."""
    seen: set[str] = set()
    found = CheckedLines()
    for number, text in lines:
        if not text.strip():
            continue
        found.total += 1
        if found.total > MAX_LINES:
            found.errors = [_error(number, "too_many_lines", f"A batch has at most {MAX_LINES} requests.", None)]
            return found
        try:
            line = _checked_line(text, endpoint, seen)
        except InvalidRequest as err:
            found.errors.append(_error(number, err.code, err.message, err.param))
        else:
            found.models.add(str(line.body.get("model") or DEFAULT_ALIAS))
            found.inputs += _num_inputs(line.body.get("input")) if endpoint == EMBEDDINGS else 0
        if found.inputs > MAX_INPUTS:
            message = f"A batch has at most {MAX_INPUTS} inputs of embeddings, of all requests together."
            found.errors = [_error(number, "too_many_inputs", message, "input")]
            return found
        if len(found.errors) == MAX_ERRORS:
            break
    if found.total == 0:
        found.errors.append(_error(None, "empty_file", "The file has no request.", None))
    return found


def _num_inputs(value: Any) -> int:
    """Return the number of inputs in a request for embeddings: several texts or lists of tokens are a list."""
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], int) else 1


def _checked_line(text: str, endpoint: str, seen: set[str]) -> BatchLine:
    line = read_line(text)
    if line.url != endpoint:
        raise InvalidRequest(f"url must be the batch's endpoint, {endpoint}; got {line.url[:60]!r}", param="url")
    if line.custom_id in seen:
        raise InvalidRequest(f"custom_id must be unique; {line.custom_id[:60]!r} comes twice", param="custom_id")
    seen.add(line.custom_id)
    return line


def _error(number: int | None, code: str, message: str, param: str | None) -> LineError:
    """Return an error as in a batch object, where lines are counted from 1."""
    return LineError(code=code, line=None if number is None else number + 1, message=message, param=param)
