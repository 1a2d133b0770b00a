"""The jobs of one request as a stream of chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from redis.exceptions import RedisError

from api.jobs.sse import HEARTBEAT
from api.openai import errors
from api.openai.choices import usage
from api.openai.endpoint import ChunkChoice, Endpoint, ResponseHeader
from api.openai.generations import Generations, News, failure
from api.openai.logprobs import TokenScale
from api.openai.sampling_body import SamplingBody
from common.errors import SLMError
from common.jobs.events import Event, EventType
from common.jobs.store import QueuePosition
from common.redis.client import explain

DONE = "data: [DONE]\n\n"
B = TypeVar("B", bound=SamplingBody)


class ChunkStream(Generic[B]):
    """Writes the frames. What is no part of an answer (a queue position, a status) goes into comments."""

    def __init__(self, endpoint: Endpoint[B], body: B, header: ResponseHeader, generations: Generations) -> None:
        self._endpoint = endpoint
        self._body = body
        self._header = header
        self._generations = generations
        self._num_open = generations.count
        self._scales = [TokenScale() for _ in range(generations.count)]

    def frames(self, *, pulse_s: float) -> Iterator[str]:
        """The frames up to `[DONE]`. An error ends them without it: what came cannot be taken for the whole."""
        try:
            yield from self._opening()
            for index, news in self._generations.story(pulse_s=pulse_s):
                if (error := failure(news)) is not None:
                    raise error
                yield self._frame(index, news)
            if self._num_open == 0:
                yield from self._ending()
        except SLMError as err:
            self._generations.give_up(err)
            yield data_frame(errors.body(err.renamed(self._endpoint.names)))
        except RedisError as err:
            yield data_frame(errors.body(explain(err)))

    def _opening(self) -> Iterator[str]:
        for index in range(self._generations.count):
            if (choice := self._endpoint.opening(self._body, index)) is not None:
                yield self._chunk(choice)

    def _frame(self, index: int, news: News) -> str:
        if isinstance(news, Event):
            return self._of_event(index, news)
        return HEARTBEAT if news is None else position_comment(news)

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
        """A token event can be empty: the bytes of a character may come in several tokens."""
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
    """A frame without a name."""
    return f"data: {json.dumps(data)}\n\n"


def position_comment(place: QueuePosition) -> str:
    """Where the job stands in the queue."""
    return f": queued, position {place.position}\n\n"


def event_comment(event: Event) -> str:
    """What is told of a job that is no part of its answer."""
    if event.type is EventType.QUEUED:
        return f": queued, position {event.data['position']}\n\n"
    return f": {event.data['status']}\n\n"
