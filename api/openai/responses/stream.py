"""Streams a response's events as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import cast

from redis.exceptions import RedisError

from api.jobs.generations import Update
from api.jobs.sse import HEARTBEAT, event_comment, position_comment
from api.openai import errors
from api.openai.responses.builder import ResponseBuilder
from api.schemas.errors import OpenAIErrorBody
from api.schemas.openai.responses import FailureEvent, ResponseStreamEvent
from common.errors import SLMError
from common.jobs.event_log import PAUSE, Pause
from common.jobs.events import Event, EventType
from common.redis.client import explain


def frames(builder: ResponseBuilder, updates: Iterable[Update | Pause], *, after: int = -1) -> Iterator[str]:
    """Yield the frames after event `after`, up to the response's end, and an empty one if the next is not there yet.

    Args:
        builder: a new builder.
        updates: what happens to the job, from its log's first event on.
        after: the number of the last event that the client has seen.
    """
    yield from _frames(builder.opening(), after)
    yield ""
    try:
        for update in updates:
            if update is PAUSE:
                yield ""
            elif isinstance(update, Event):
                yield from _frames(builder.take(update), after)
                yield from _comment(update)
            else:
                yield HEARTBEAT if update is None else position_comment(update)
    except (RedisError, SLMError) as err:
        meaning = explain(err) if isinstance(err, RedisError) else err
        yield _frame(_failure(errors.body(meaning)["error"]))


def _frames(written: list[ResponseStreamEvent], after: int) -> Iterator[str]:
    return (_frame(event) for event in written if event["sequence_number"] > after)


def _failure(error: OpenAIErrorBody) -> FailureEvent:
    return cast(FailureEvent, {"type": "error", **error})


def _comment(event: Event) -> Iterator[str]:
    if event.type in (EventType.QUEUED, EventType.STATUS):
        yield event_comment(event)


def _frame(event: ResponseStreamEvent | FailureEvent) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
