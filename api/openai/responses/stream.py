"""A response's events as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import cast

from redis.exceptions import RedisError

from api.jobs.sse import HEARTBEAT
from api.openai import errors
from api.openai.generations import News
from api.openai.responses.events import ResponseEvents
from api.openai.stream import event_comment, position_comment
from api.schemas.errors import OpenAIErrorBody
from api.schemas.openai.responses import FailureEvent, StoryEvent
from common.errors import SLMError
from common.jobs.events import Event, EventType
from common.redis.client import explain


def frames(story: ResponseEvents, happening: Iterable[News], *, after: int = -1) -> Iterator[str]:
    """The frames behind event `after`, up to the response's end.

    Args:
        story: not begun yet.
        happening: what happens to the job, from its log's first event on.
        after: the last event that the client has seen.
    """
    yield from _frames(story.opening(), after)
    try:
        for news in happening:
            if isinstance(news, Event):
                yield from _frames(story.take(news), after)
                yield from _comment(news)
            else:
                yield HEARTBEAT if news is None else position_comment(news)
    except (RedisError, SLMError) as err:
        meaning = explain(err) if isinstance(err, RedisError) else err
        yield _frame(_failure(errors.body(meaning)["error"]))


def _frames(told: list[StoryEvent], after: int) -> Iterator[str]:
    return (_frame(event) for event in told if event["sequence_number"] > after)


def _failure(error: OpenAIErrorBody) -> FailureEvent:
    return cast(FailureEvent, {"type": "error", **error})


def _comment(event: Event) -> Iterator[str]:
    if event.type in (EventType.QUEUED, EventType.STATUS):
        yield event_comment(event)


def _frame(event: StoryEvent | FailureEvent) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
