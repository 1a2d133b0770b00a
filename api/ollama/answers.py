"""Builds Ollama's answers, whole and in lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from api.jobs.choices import GeneratedChoice
from api.jobs.generations import Generations, failure
from api.jobs.tool_reader import (
    Content,
    Delta,
    PlainReader,
    Thought,
    answer_reader,
    calls_in,
    content_of,
    object_of,
    reasoning_of,
)
from api.ollama import errors
from api.schemas.ollama.requests import OllamaBody, OllamaChatBody
from api.schemas.ollama.responses import OllamaCall, OllamaFunctionCall
from api.times import iso
from common.errors import SLMError
from common.jobs.event_log import PAUSE
from common.jobs.events import Event, EventType
from common.jobs.job import GenerateResult, JobRecord
from common.redis.client import explain

NS_OF_MS = 1_000_000
Json = dict[str, Any]


def whole(body: OllamaBody, choice: GeneratedChoice, record: JobRecord) -> Json:
    """Return the complete answer of an ended job."""
    deltas = _reader(body, choice.job_id).read_whole(choice.text, choice.syntax)
    return _part(body, content_of(deltas), _calls(deltas), reasoning_of(deltas)) | _end(record)


def loaded(body: OllamaBody) -> Json:
    """Return the answer to a request without anything to answer."""
    return _part(body, "") | {"done": True, "done_reason": "load"}


def lines(
    body: OllamaBody, generations: Generations, reload: Callable[[], JobRecord], *, pulse_s: float
) -> Iterator[str]:
    """Yield the lines of the stream, and an empty one if the next is not there yet (`together`); an error comes last.

    Args:
        body: the request.
        generations: the one job of the request.
        reload: reads the record of the job after its end.
        pulse_s: how long to wait for the job in one go.
    """
    writer = _LineWriter(body, generations.first.id, reload)
    try:
        for _, update in generations.updates(pulse_s=pulse_s):
            if update is PAUSE:
                yield ""
                continue
            if (error := failure(update)) is not None:
                raise error
            if isinstance(update, Event):
                yield from map(line, writer.write(update))
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


class _LineWriter:
    """Writes the lines of one stream. The calls of tools, which come after all text, are whole at the answer's end."""

    def __init__(self, body: OllamaBody, job_id: str, reload: Callable[[], JobRecord]) -> None:
        self._body = body
        self._reload = reload
        self._reader = _reader(body, job_id)
        self._deltas: list[Delta] = []

    def write(self, event: Event) -> list[Json]:
        """Return the lines for an event of the job."""
        deltas = self._reader.take(event)
        self._deltas += deltas
        lines = [self._piece(one) for one in deltas if isinstance(one, Thought | Content) and one.text]
        return lines + self._ending() if event.type is EventType.FINISHED else lines

    def _piece(self, delta: Thought | Content) -> Json:
        is_thought = isinstance(delta, Thought)
        return _part(self._body, "", (), delta.text) if is_thought else _part(self._body, delta.text)

    def _ending(self) -> list[Json]:
        calls = _calls(self._deltas)
        return [_part(self._body, "", calls)] * bool(calls) + [_part(self._body, "") | _end(self._reload())]


def _reader(body: OllamaBody, job_id: str) -> PlainReader:
    return answer_reader(job_id, can_call=body.can_call, shows_reasoning=body.shows_reasoning)


def _calls(deltas: Sequence[Delta]) -> list[OllamaCall]:
    whole = [(call, arguments) for call in calls_in(deltas) if (arguments := object_of(call)) is not None]
    return [
        OllamaCall(id=call.id, function=OllamaFunctionCall(index=index, name=call.name, arguments=arguments))
        for index, (call, arguments) in enumerate(whole)
    ]


def _part(body: OllamaBody, text: str, calls: Sequence[OllamaCall] = (), thinking: str | None = None) -> Json:
    called = {"tool_calls": list(calls)} if calls else {}
    thought = {} if thinking is None else {"thinking": thinking}
    said: Json = {"message": {"role": "assistant", "content": text} | thought | called}
    shown = said if isinstance(body, OllamaChatBody) else {"response": text} | thought
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
