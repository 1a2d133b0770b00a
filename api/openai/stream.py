"""Streams the jobs of one request as chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from redis.exceptions import RedisError

from api.jobs.choices import usage
from api.jobs.generations import Generations, Update, failure
from api.jobs.sse import HEARTBEAT, event_comment, position_comment
from api.openai import errors
from api.openai.endpoint import ChunkChoice, Endpoint, ResponseHeader
from api.openai.logprobs import TokenScale
from api.openai.sampling_body import SamplingBody
from common.errors import SLMError
from common.jobs.events import Event, EventType
from common.redis.client import explain

DONE = "data: [DONE]\n\n"
B = TypeVar("B", bound=SamplingBody)


class ChunkStream(Generic[B]):
    """Writes the frames. Queue positions and status lines, which OpenAI's format does not have, become comments."""

    def __init__(self, endpoint: Endpoint[B], body: B, header: ResponseHeader, generations: Generations) -> None:
        self._endpoint = endpoint
        self._body = body
        self._header = header
        self._generations = generations
        self._num_open = generations.count
        self._scales = [TokenScale() for _ in range(generations.count)]

    def frames(self, *, pulse_s: float) -> Iterator[str]:
        """Yield the frames up to `[DONE]`. An error ends them without it, to show that the answer is incomplete."""
        try:
            yield from self._opening()
            for index, update in self._generations.event_stream(pulse_s=pulse_s):
                if (error := failure(update)) is not None:
                    raise error
                yield self._frame(index, update)
            if self._num_open == 0:
                yield from self._ending()
        except SLMError as err:
            self._generations.give_up(err)
            yield data_frame(errors.body(err.renamed(self._endpoint.names_of(self._body))))
        except RedisError as err:
            yield data_frame(errors.body(explain(err)))

    def _opening(self) -> Iterator[str]:
        for index in range(self._generations.count):
            if (choice := self._endpoint.opening(self._body, index)) is not None:
                yield self._chunk(choice)

    def _frame(self, index: int, update: Update) -> str:
        if isinstance(update, Event):
            return self._of_event(index, update)
        return HEARTBEAT if update is None else position_comment(update)

    def _of_event(self, index: int, event: Event) -> str:
        match event.type:
            case EventType.TOKEN:
                return self._piece(index, event)
            case EventType.FINISHED:
                self._num_open -= 1
                return self._chunk(self._endpoint.closing(index, event.data["finish_reason"]))
            case _:
                return event_comment(event)

    def _piece(self, index: int, event: Event) -> str:
        """Return a chunk; empty if the event is, because the bytes of a character can span several tokens."""
        text, scored = event.data["text"], None
        if wire := event.data.get("logprobs"):
            scored = self._scales[index].take(wire)
        return self._chunk(self._endpoint.piece(index, text, scored)) if text or scored else ""

    def _ending(self) -> Iterator[str]:
        if self._body.include_usage:
            total = usage(self._generations.choices(), self._body.n)
            yield data_frame(self._endpoint.chunk(self._header, []) | {"usage": total})
        yield DONE

    def _chunk(self, choice: ChunkChoice) -> str:
        chunk = self._endpoint.chunk(self._header, [choice])
        return data_frame(chunk | {"usage": None} if self._body.include_usage else chunk)


def data_frame(data: Mapping[str, Any]) -> str:
    """Return a frame without an event name."""
    return f"data: {json.dumps(data)}\n\n"
