"""Builds Anthropic's messages, whole and as events."""

from __future__ import annotations

import json
from collections.abc import Iterator

from redis.exceptions import RedisError

from api.anthropic import errors
from api.jobs.choices import GeneratedChoice
from api.jobs.generations import Generations, Update, failure
from api.jobs.sse import event_comment, position_comment
from api.schemas.anthropic.responses import (
    AnthropicAnswer,
    AnthropicText,
    AnthropicUsage,
    Bare,
    BlockDelta,
    BlockStart,
    BlockStop,
    MessageDelta,
    MessageEnd,
    MessageStart,
    StopReason,
    StreamEvent,
    TextDelta,
)
from common.errors import SLMError
from common.jobs.events import Event, EventType
from common.jobs.job import JobRecord
from common.redis.client import explain

ID_PREFIX = "msg_"
NAMES = {"prompt": "messages", "response_format": "output_config"}  # the worker's names of fields -> the request's


def whole(job_id: str, model: str, choice: GeneratedChoice) -> AnthropicAnswer:
    """Return the complete message."""
    end = _end(choice)
    return AnthropicAnswer(
        id=f"{ID_PREFIX}{job_id}",
        type="message",
        role="assistant",
        model=model,
        content=[AnthropicText(type="text", text=choice.text)],
        stop_reason=end["stop_reason"],
        stop_sequence=end["stop_sequence"],
        usage=_usage(choice),
    )


class MessageStream:
    """Writes the events of one message. Comments report the queue position.

    Args:
        record: the job.
        model: the name that the client sent.
        generations: the one job of the request.
        request_id: the request's id, for errors.
    """

    def __init__(self, record: JobRecord, model: str, generations: Generations, request_id: str) -> None:
        self._job_id = record.id
        self._model = model
        self._generations = generations
        self._request_id = request_id

    def frames(self, *, pulse_s: float) -> Iterator[str]:
        """Yield the events up to `message_stop`, or to `error`."""
        try:
            yield from map(_frame, self._opening())
            for _, update in self._generations.event_stream(pulse_s=pulse_s):
                if (error := failure(update)) is not None:
                    raise error
                yield _written(update)
            yield from map(_frame, self._closing(self._generations.choices()[0]))
        except SLMError as err:
            self._generations.give_up(err)
            yield _frame(errors.body(err.renamed(NAMES), self._request_id))
        except RedisError as err:
            yield _frame(errors.body(explain(err), self._request_id))

    def _opening(self) -> list[StreamEvent]:
        message = AnthropicAnswer(
            id=f"{ID_PREFIX}{self._job_id}",
            type="message",
            role="assistant",
            model=self._model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=AnthropicUsage(input_tokens=0, output_tokens=0),
        )
        block = AnthropicText(type="text", text="")
        return [
            MessageStart(type="message_start", message=message),
            BlockStart(type="content_block_start", index=0, content_block=block),
        ]

    def _closing(self, choice: GeneratedChoice) -> list[StreamEvent]:
        return [
            BlockStop(type="content_block_stop", index=0),
            MessageDelta(type="message_delta", delta=_end(choice), usage=_usage(choice)),
            Bare(type="message_stop"),
        ]


def _written(update: Update) -> str:
    if not isinstance(update, Event):
        return _frame(Bare(type="ping")) if update is None else position_comment(update)
    match update.type:
        case EventType.TOKEN:
            text = update.data["text"]
            piece = BlockDelta(type="content_block_delta", index=0, delta=TextDelta(type="text_delta", text=text))
            return _frame(piece) if text else ""
        case EventType.FINISHED:
            return ""
    return event_comment(update)


def _end(choice: GeneratedChoice) -> MessageEnd:
    reason: StopReason = "max_tokens" if choice.finish_reason == "length" else "end_turn"
    if choice.stop_string is not None:
        reason = "stop_sequence"
    return MessageEnd(stop_reason=reason, stop_sequence=choice.stop_string)


def _usage(choice: GeneratedChoice) -> AnthropicUsage:
    return AnthropicUsage(input_tokens=choice.prompt_tokens, output_tokens=choice.completion_tokens)


def _frame(event: StreamEvent) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
