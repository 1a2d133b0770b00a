"""Server-sent events: flask-sse's blueprint and message form, with what a token stream needs on top.

flask-sse 1.0.0 opens a Redis connection pool per access, subscribes only when the first byte is asked for, knows no
replay, no heartbeat and no end of a stream, takes the channel from the URL, and notices a gone client at the next event
only. So its `redis`, `messages` and `stream` are overridden here. The form of the messages in Redis stays its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from flask import Response, request
from flask_sse import Message, ServerSentEventsBlueprint
from redis import Redis

from api.auth.access import Access, set_access
from api.current import caller, open_stream, request_id, services
from api.http.disconnect import watch_client
from api.jobs.frames import FrameWriter, queue_position
from api.jobs.live_job import LiveJob
from api.schemas.query import parse_last_event_id
from common.errors import ServerStopping, SLMError
from common.jobs.events import Event
from common.jobs.store import QueuePosition

FIRST_EVENT_WAIT_S = 2.0  # how long a new stream's status line waits for what the job says first
HEARTBEAT = ": heartbeat\n\n"
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


class Frame(Message):  # type: ignore[misc]
    """One frame. flask-sse's own text lacks the blank after `data:`, drops an id of 0, and breaks lines at U+2028.

    Without an id it leaves the reader's Last-Event-ID as it is.
    """

    def __str__(self) -> str:
        number = "" if self.id is None else f"id: {self.id}\n"
        return f"{number}data: {json.dumps(self.data)}\n\n"


class JobStreamBlueprint(ServerSentEventsBlueprint):  # type: ignore[misc]
    """Streams the events of jobs."""

    @property
    def redis(self) -> Redis:
        """The application's one client."""
        return services().redis

    def stream(self, job_id: str) -> Response:
        """View: the job's stream from its beginning, or behind the event that the client names.

        204 when the client has seen all of an ended job: it stops a browser's EventSource from asking again.
        """
        open_stream()
        seen = request.headers.get("Last-Event-ID", request.args.get("last_event_id"))
        job = services().jobs.attach(job_id, parse_last_event_id(seen), caller())
        return Response(status=204) if job is None else self.respond(job, is_flowing=False)

    def open(self, job: LiveJob) -> Response:
        """The stream of a job that was just entered. Closes `job` whatever happens.

        Raises:
            SLMError: the job failed at once; the client gets a plain error instead of a stream.
        """
        try:
            is_flowing = job.raise_early_error(FIRST_EVENT_WAIT_S)
        except BaseException:
            job.close()
            raise
        return self.respond(job, is_flowing=is_flowing)

    def respond(self, job: LiveJob, *, is_flowing: bool) -> Response:
        """An answer that streams the job's events. Unless they flow already, a comment carries the headers ahead."""
        writer = FrameWriter(job.kind, text=job.text, request_id=request_id())
        messages = self.messages(job, writer, pulse_s=services().settings.heartbeat_s)
        response = Response(_encode(messages, is_flowing=is_flowing), mimetype="text/event-stream", headers=HEADERS)
        # Not in the generator's `finally`: one that was never begun is closed without running it.
        response.call_on_close(job.close)
        response.call_on_close(watch_client(request.environ, job.close))
        return response

    def messages(self, job: LiveJob, writer: FrameWriter, *, pulse_s: float) -> Iterator[Message | None]:
        """The job's frames, each under the number of the last event in it; None after each silent `pulse_s`.

        What is no event of the job has no number: a move in the queue, and the error that nothing more can come.
        """
        try:
            for event in job.digest(pulse_s=pulse_s):
                if event is None:
                    yield None
                elif isinstance(event, QueuePosition):
                    yield Frame(queue_position(event), type="queued")
                else:
                    yield from _frame(event, writer, job.after)
        except ServerStopping:
            return  # without a last frame: the client takes the stream up again
        except SLMError as err:
            yield Frame(writer.failure(err), type="error")


def _frame(event: Event, writer: FrameWriter, after: int) -> Iterator[Message]:
    """Up to `after` the client has seen everything, but not the end."""
    data = writer.write(event)
    if data is not None and (event.seq > after or event.type.is_terminal):
        yield Frame(data, type=event.type.value, id=max(event.seq, after + 1))  # ids rise, whatever Redis has lost


def _encode(messages: Iterator[Message | None], *, is_flowing: bool) -> Iterator[str]:
    if not is_flowing:
        yield HEARTBEAT
    for message in messages:
        yield HEARTBEAT if message is None else str(message)


sse = JobStreamBlueprint("sse", __name__)
set_access(sse, Access.USER)
sse.add_url_rule("/slm/jobs/<job_id>/stream", endpoint="stream", view_func=sse.stream)
