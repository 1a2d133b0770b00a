"""Streams server-sent events: flask-sse's blueprint and message format, extended for token streams.

flask-sse 1.0.0 opens a Redis connection pool per access, subscribes only when the first byte is read, has no replay,
no heartbeat and no end of a stream, takes the channel from the URL, and notices a disconnected client only at the next
event. So its `redis`, `messages` and `stream` are overridden here. The format of the messages in Redis is unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from flask import Response, request
from flask_sse import Message, ServerSentEventsBlueprint
from redis import Redis

from api.auth.access import Access, set_access
from api.current import caller, open_stream, request_id, services
from api.http.disconnect import watch_client
from api.jobs.frames import FrameWriter, position_frame
from api.jobs.live_job import LiveJob
from api.schemas.query import parse_last_event_id
from common.errors import ServerStopping, SLMError
from common.jobs.event_log import PAUSE, Pause
from common.jobs.events import Event, EventType
from common.jobs.store import QueuePosition

FIRST_EVENT_WAIT_S = 2.0  # how long the status line of a new stream waits for the job's first event
MOST_TOGETHER = 32  # frames; a long answer repeats its text in each
HEARTBEAT = ": heartbeat\n\n"
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


class Frame(Message):  # type: ignore[misc]
    """One frame. flask-sse's own text omits the space after `data:` and an id of 0, and breaks lines at U+2028.

    A frame without an id does not change the reader's Last-Event-ID.
    """

    def __str__(self) -> str:
        number = "" if self.id is None else f"id: {self.id}\n"
        return f"{number}data: {json.dumps(self.data)}\n\n"


class JobStreamBlueprint(ServerSentEventsBlueprint):  # type: ignore[misc]
    """Streams the events of jobs."""

    @property
    def redis(self) -> Redis:
        """The application's client."""
        return services().redis

    def stream(self, job_id: str) -> Response:
        """Stream a job from its beginning, or after the event that the client names. This is the view of the route.

        Responds with 204 if the client has seen all of an ended job, which stops a browser's EventSource.
        """
        open_stream()
        seen = request.headers.get("Last-Event-ID", request.args.get("last_event_id"))
        job = services().jobs.attach(job_id, parse_last_event_id(seen), caller())
        return Response(status=204) if job is None else self.respond(job, has_started=False)

    def open(self, job: LiveJob) -> Response:
        """Stream a job that was just submitted. Closes `job` in any case.

        Raises:
            SLMError: the job failed with its first event; the client gets an error response instead of a stream.
        """
        try:
            has_started = job.raise_early_error(FIRST_EVENT_WAIT_S)
        except BaseException:
            job.close()
            raise
        return self.respond(job, has_started=has_started)

    def respond(self, job: LiveJob, *, has_started: bool) -> Response:
        """Stream the job's events. Unless they have started, a comment makes the server send the headers now."""
        writer = FrameWriter(job.kind, text=job.text, request_id=request_id())
        messages = self.messages(job, writer, pulse_s=services().settings.heartbeat_s)
        return stream_response(together(_encode(messages, has_started=has_started)), job.close)

    def messages(self, job: LiveJob, writer: FrameWriter, *, pulse_s: float) -> Iterator[Message | Pause | None]:
        """Yield the job's frames, each with the seq of its last event as id; None after each `pulse_s` of silence.

        Yields `PAUSE` after frames if the next one is not there yet.

        Frames that are not events of the job have no id: queue positions, and an error that ends only the stream.
        """
        try:
            for event in job.compact_event_stream(pulse_s=pulse_s):
                if event is None or event is PAUSE:
                    yield event
                elif isinstance(event, QueuePosition):
                    yield Frame(position_frame(event), type="queued")
                    yield PAUSE
                else:
                    yield from _frame(event, writer, job.after)
        except ServerStopping:
            return  # without a last frame, so that the client resumes the stream
        except SLMError as err:
            yield Frame(writer.failure(err), type="error")


def _frame(event: Event, writer: FrameWriter, after: int) -> Iterator[Message]:
    """Yield the event's frame, if it has one that the client has not seen."""
    data = writer.write(event)
    if data is not None and (event.seq > after or event.type.is_terminal):
        yield Frame(data, type=event.type.value, id=max(event.seq, after + 1))  # ids rise even if Redis lost events


def _encode(messages: Iterator[Message | Pause | None], *, has_started: bool) -> Iterator[str]:
    if not has_started:
        yield HEARTBEAT
    for message in messages:
        if message is PAUSE:
            yield ""
        else:
            yield HEARTBEAT if message is None else str(message)


def together(frames: Iterator[str]) -> Iterator[str]:
    """Join frames that are there at the same time, because sending costs more than all else.

    An empty one says that the next is not there yet. Comments are sent at once, with those before them.
    """
    waiting: list[str] = []
    for frame in frames:
        if frame:
            waiting.append(frame)
        if waiting and (not frame or frame.startswith(":") or len(waiting) == MOST_TOGETHER):
            yield "".join(waiting)
            waiting.clear()
    if waiting:
        yield "".join(waiting)


sse = JobStreamBlueprint("sse", __name__)
set_access(sse, Access.USER)
sse.add_url_rule("/slm/jobs/<job_id>/stream", endpoint="stream", view_func=sse.stream)


def stream_response(
    frames: Iterator[str], on_close: Callable[[], None], mimetype: str = "text/event-stream"
) -> Response:
    """Return a streaming response; `on_close` is called at its end, or when the client disconnects."""
    response = Response(frames, mimetype=mimetype, headers=HEADERS)
    # Not in a generator's `finally`, which does not run if the generator was never started.
    response.call_on_close(on_close)
    response.call_on_close(watch_client(request.environ, on_close))
    return response


def position_comment(found: QueuePosition) -> str:
    """Return a comment with the job's queue position."""
    return f": queued, position {found.position}\n\n"


def event_comment(event: Event) -> str:
    """Return a comment with a queued or status event."""
    if event.type is EventType.QUEUED:
        return f": queued, position {event.data['position']}\n\n"
    return f": {event.data['status']}\n\n"
