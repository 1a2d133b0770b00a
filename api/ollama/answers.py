"""Builds Ollama's answers, whole and in lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from redis.exceptions import RedisError

from api.jobs.generations import Generations, failure
from api.ollama import errors
from api.schemas.ollama.requests import OllamaBody, OllamaChatBody
from api.times import iso
from common.errors import SLMError
from common.jobs.events import Event, EventType
from common.jobs.job import GenerateResult, JobRecord
from common.redis.client import explain

NS_OF_MS = 1_000_000
Json = dict[str, Any]


def whole(body: OllamaBody, text: str, record: JobRecord) -> Json:
    """Return the complete answer of an ended job."""
    return _part(body, text) | _end(record)


def loaded(body: OllamaBody) -> Json:
    """Return the answer to a request without anything to answer."""
    return _part(body, "") | {"done": True, "done_reason": "load"}


def lines(
    body: OllamaBody, generations: Generations, reload: Callable[[], JobRecord], *, pulse_s: float
) -> Iterator[str]:
    """Yield the lines of the stream; an error is its last line.

    Args:
        body: the request.
        generations: the one job of the request.
        reload: reads the record of the job after its end.
        pulse_s: how long to wait for the job in one go.
    """
    try:
        for _, update in generations.event_stream(pulse_s=pulse_s):
            if (error := failure(update)) is not None:
                raise error
            if isinstance(update, Event) and (part := _of_event(body, update, reload)) is not None:
                yield line(part)
    except SLMError as err:
        generations.give_up(err)
        yield line(errors.body(err.renamed(names_of(body))))
    except RedisError as err:
        yield line(errors.body(explain(err)))


def line(part: Mapping[str, Any]) -> str:
    """Return a line of a stream."""
    return f"{json.dumps(part)}\n"


def names_of(body: OllamaBody) -> dict[str, str]:
    """Return the names under which the request has the fields that a worker's error can name."""
    prompt = {"prompt": "messages"} if isinstance(body, OllamaChatBody) else {}
    return prompt | {"response_format": "format"}


def _of_event(body: OllamaBody, event: Event, reload: Callable[[], JobRecord]) -> Json | None:
    match event.type:
        case EventType.TOKEN if event.data["text"]:
            return _part(body, event.data["text"])
        case EventType.FINISHED:
            return _part(body, "") | _end(reload())
    return None


def _part(body: OllamaBody, text: str) -> Json:
    said: Json = {"message": {"role": "assistant", "content": text}}
    shown = said if isinstance(body, OllamaChatBody) else {"response": text}
    return {"model": body.model, "created_at": iso(int(time.time() * 1000)), **shown, "done": False}


def _end(record: JobRecord) -> Json:
    """Return the numbers of an ended job. The time in the queue counts as Ollama counts the loading of a model."""
    result = GenerateResult.from_dict(record.result or {})
    started, finished = record.started_ms or record.created_ms, record.finished_ms or record.created_ms
    prompt_ms = result.first_token_ms or 0.0
    return {
        "done": True,
        "done_reason": result.finish_reason,
        "total_duration": (finished - record.created_ms) * NS_OF_MS,
        "load_duration": (started - record.created_ms) * NS_OF_MS,
        "prompt_eval_count": result.prompt_tokens,
        "prompt_eval_duration": int(prompt_ms * NS_OF_MS),
        "eval_count": result.completion_tokens,
        "eval_duration": max(0, int((finished - started - prompt_ms) * NS_OF_MS)),
    }
