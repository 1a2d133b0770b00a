"""Streams the jobs of one request as chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from redis.exceptions import RedisError

from api.jobs.choices import usage
from api.jobs.generations import Generations, Update, failure
from api.jobs.sse import HEARTBEAT, event_comment, position_comment
from api.jobs.tool_reader import Content
from api.openai import errors
from api.openai.endpoint import ChunkChoice, Endpoint, ResponseHeader
from api.openai.running_usage import RunningUsage
from api.openai.sampling_body import SamplingBody
from api.openai.text_offsets import TextOffsets
from common.errors import SLMError
from common.jobs.event_log import PAUSE
from common.jobs.events import Event, EventType, prompt_ids
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
        self._offsets = [TextOffsets() for _ in range(generations.count)]
        self._usage = RunningUsage(body.n) if body.continuous_usage else None
        self._last: dict[int, list[ChunkChoice]] = {}  # a choice's last tokens, until the reason of its end is known
        self._readers = [endpoint.reader(body, job_id) for job_id in generations.job_ids]

    def frames(self, *, pulse_s: float) -> Iterator[str]:
        """Yield the frames up to `[DONE]`, and an empty one if the next is not there yet (`together`).

        An error ends them without `[DONE]`, to show that the answer is incomplete.
        """
        try:
            yield from self._opening()
            yield ""
            for index, update in self._generations.updates(pulse_s=pulse_s):
                if update is PAUSE:
                    yield ""
                    continue
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
        """Yield the first chunk of each choice, unless it will also have the prompt's tokens (`_prompt`)."""
        for index in range(self._generations.count):
            choice = self._endpoint.opening(self._body, index)
            if choice is not None and not self._body.return_token_ids:
                yield self._chunk(choice)

    def _frame(self, index: int, update: Update) -> str:
        if isinstance(update, Event):
            return self._of_event(index, update)
        return HEARTBEAT if update is None else position_comment(update)

    def _of_event(self, index: int, event: Event) -> str:
        if self._usage is not None:
            self._usage.take(index, event)
        match event.type:
            case EventType.TOKEN:
                pieces = self._pieces(index, event)
                if self._usage is not None and event.data["is_last"]:
                    self._last[index] = pieces
                    return ""
                return "".join(map(self._chunk, pieces))
            case EventType.FINISHED:
                return self._closing(index, event)
            case _:
                self._readers[index].note(event)
                return event_comment(event) + self._prompt(index, event)

    def _prompt(self, index: int, event: Event) -> str:
        """Return a chunk with the prompt's tokens, if the client wants them and the event has them."""
        if not self._body.return_token_ids or (token_ids := prompt_ids([event])) is None:
            return ""
        begin = self._endpoint.opening(self._body, index)
        choice = begin or self._endpoint.piece(self._body, index, Content(""), None)
        choice["token_ids"] = []
        chunk = self._endpoint.chunk(self._header, [choice])
        return self._written(self._endpoint.with_prompt_ids(dict(chunk), token_ids))

    def _pieces(self, index: int, event: Event) -> list[ChunkChoice]:
        """Return the event's chunks; none if it is empty, because the bytes of a character can span several tokens."""
        scored = None
        if wire := event.data.get("logprobs"):
            scored = self._offsets[index].take(wire, event.data["text"])
            scored = replace(scored, as_ids=self._body.return_tokens_as_token_ids)
        deltas = [one for one in self._readers[index].read(event.data["text"]) if one != Content("")]
        if not deltas and (scored or self._body.return_token_ids):
            deltas = [Content("")]
        pieces = [self._endpoint.piece(self._body, index, one, None) for one in deltas[1:]]
        if deltas:
            pieces.insert(0, self._endpoint.piece(self._body, index, deltas[0], scored))
        if self._body.return_token_ids:
            pieces[0]["token_ids"] = event.data["ids"]
        return pieces

    def _closing(self, index: int, event: Event) -> str:
        """Return the choice's last chunks. The reason is alone in the last one, as in OpenAI's streams.

        With `continuous_usage_stats` it is in that of the last token, as in vLLM's, so that each chunk has more tokens.
        """
        self._num_open -= 1
        reader = self._readers[index]
        rest = [self._endpoint.piece(self._body, index, one, None) for one in reader.end()]
        pieces = [*self._last.pop(index, []), *rest]
        closing = self._endpoint.closing(self._body, index, event.data["finish_reason"], has_calls=reader.has_calls)
        if self._body.return_token_ids:
            closing["token_ids"] = []
        if pieces and self._usage is not None:
            pieces[-1]["finish_reason"] = closing["finish_reason"]
        else:
            pieces.append(closing)
        return "".join(map(self._chunk, pieces))

    def _ending(self) -> Iterator[str]:
        if self._body.include_usage:
            total = usage(self._generations.choices(), self._body.n)
            yield data_frame(self._endpoint.chunk(self._header, []) | {"usage": total})
        yield DONE

    def _chunk(self, choice: ChunkChoice) -> str:
        chunk = self._endpoint.chunk(self._header, [choice])
        return self._written(dict(chunk))

    def _written(self, chunk: dict[str, Any]) -> str:
        if self._body.include_usage:
            chunk["usage"] = None if self._usage is None else self._usage.counts()
        return data_frame(chunk)


def data_frame(data: Mapping[str, Any]) -> str:
    """Return a frame without an event name."""
    return f"data: {json.dumps(data)}\n\n"
