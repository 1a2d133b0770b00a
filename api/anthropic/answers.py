"""Builds Anthropic's messages, whole and as events."""

from __future__ import annotations

import json
from collections.abc import Iterator

from redis.exceptions import RedisError

from api.anthropic import errors
from api.anthropic.content import BlockStream, blocks
from api.jobs.choices import GeneratedChoice
from api.jobs.generations import Generations, Update, failure
from api.jobs.sse import HEARTBEAT, event_comment, position_comment
from api.jobs.tool_reader import PlainReader, answer_reader
from api.schemas.anthropic.requests import MessagesBody
from api.schemas.anthropic.responses import (
    AnthropicAnswer,
    AnthropicUsage,
    Bare,
    MessageDelta,
    MessageEnd,
    MessageStart,
    StopReason,
    StreamEvent,
)
from common.errors import SLMError
from common.jobs.event_log import PAUSE
from common.jobs.events import Event, EventType, prompt_ids
from common.redis.client import explain

ID_PREFIX = "msg_"
NAMES = {"prompt": "messages", "response_format": "output_config"}  # the worker's names of fields -> the request's


def reader_of(body: MessagesBody, job_id: str) -> PlainReader:
    """Return a reader of the answer of this job."""
    return answer_reader(job_id, can_call=body.can_call, shows_reasoning=body.shows_reasoning)


def whole(body: MessagesBody, choice: GeneratedChoice) -> AnthropicAnswer:
    """Return the complete message."""
    reader = reader_of(body, choice.job_id)
    deltas = reader.read_whole(choice.text, choice.syntax)
    end = _end(choice, has_calls=reader.has_calls)
    return AnthropicAnswer(
        id=f"{ID_PREFIX}{choice.job_id}",
        type="message",
        role="assistant",
        model=body.model,
        content=blocks(deltas),
        stop_reason=end["stop_reason"],
        stop_sequence=end["stop_sequence"],
        usage=_usage(choice),
    )


class MessageStream:
    """Writes the events of one message. Comments report the queue position.

    Args:
        body: the request.
        job_id: its job's id.
        generations: the one job of the request.
        request_id: the request's id, for errors.
    """

    def __init__(self, body: MessagesBody, job_id: str, generations: Generations, request_id: str) -> None:
        self._job_id = job_id
        self._model = body.model
        self._generations = generations
        self._request_id = request_id
        self._reader = reader_of(body, job_id)
        self._blocks = BlockStream()
        self._has_begun = False
        self._early = ""  # comments about events before the message has begun

    def frames(self, *, pulse_s: float) -> Iterator[str]:
        """Yield the events up to `message_stop` or `error`; an empty one if the next is not there yet (`together`)."""
        try:
            for _, update in self._generations.updates(pulse_s=pulse_s):
                if update is PAUSE:
                    yield ""
                    continue
                if (error := failure(update)) is not None:
                    raise error
                yield self._begun(update) + self._written(update)
                if update is None:
                    yield ""  # a ping is sent at once
            yield from map(_frame, self._closing(self._generations.choices()[0]))
        except SLMError as err:
            self._generations.give_up(err)
            yield _frame(errors.body(err.renamed(NAMES), self._request_id))
        except RedisError as err:
            yield _frame(errors.body(explain(err), self._request_id))

    def _begun(self, update: Update) -> str:
        """Return `message_start` at the first event after which the number of the prompt's tokens is known."""
        if self._has_begun or not isinstance(update, Event):
            return ""
        ids = prompt_ids([update])
        if ids is None and update.type in (EventType.QUEUED, EventType.STATUS):
            return ""
        self._has_begun = True
        return _frame(self._opening(len(ids or ()))) + self._early

    def _opening(self, num_prompt_tokens: int) -> StreamEvent:
        message = AnthropicAnswer(
            id=f"{ID_PREFIX}{self._job_id}",
            type="message",
            role="assistant",
            model=self._model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=_tokens(num_prompt_tokens, 0, 0),
        )
        return MessageStart(type="message_start", message=message)

    def _written(self, update: Update) -> str:
        if update is None:
            return _frame(Bare(type="ping")) if self._has_begun else HEARTBEAT
        if not isinstance(update, Event):
            return position_comment(update)
        events = [event for delta in self._reader.take(update) for event in self._blocks.add(delta)]
        comment = event_comment(update) if update.type in (EventType.QUEUED, EventType.STATUS) else ""
        if self._has_begun:
            return comment + "".join(map(_frame, events))
        self._early += comment
        return ""

    def _closing(self, choice: GeneratedChoice) -> list[StreamEvent]:
        end = _end(choice, has_calls=self._reader.has_calls)
        return [
            *self._blocks.close(),
            MessageDelta(type="message_delta", delta=end, usage=_usage(choice)),
            Bare(type="message_stop"),
        ]


def _end(choice: GeneratedChoice, *, has_calls: bool) -> MessageEnd:
    reason: StopReason = "tool_use" if has_calls else "end_turn"
    if choice.stop_string is not None:
        reason = "stop_sequence"
    if choice.finish_reason == "length":
        reason = "max_tokens"
    return MessageEnd(stop_reason=reason, stop_sequence=choice.stop_string)


def _usage(choice: GeneratedChoice) -> AnthropicUsage:
    return _tokens(choice.prompt_tokens, choice.cached_tokens, choice.completion_tokens)


def _tokens(prompt: int, cached: int, written: int) -> AnthropicUsage:
    return AnthropicUsage(
        input_tokens=prompt - cached,
        cache_creation_input_tokens=0,
        cache_read_input_tokens=cached,
        output_tokens=written,
    )


def _frame(event: StreamEvent) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
