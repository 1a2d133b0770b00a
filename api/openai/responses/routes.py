"""Responses: a generation's job under another face, which can be left alone and found again."""

from __future__ import annotations

from contextlib import ExitStack

from flask import Blueprint, Response, jsonify, request

from api.auth.access import Access, set_access
from api.current import caller, end_turn, note_job, open_stream, services, take_turn
from api.http.disconnect import watch_client
from api.http.request_body import json_text
from api.jobs.request import check_presence, job_options
from api.jobs.sse import FIRST_EVENT_WAIT_S
from api.openai.answering import catalogue, keyed, stream_response
from api.openai.generations import Generations
from api.openai.responses.body import ResponseBody
from api.openai.responses.events import ID_PREFIX, Json, ResponseEvents
from api.openai.responses.stream import frames
from api.schemas.json_object import json_object
from api.schemas.openai.responses import ResponseObject
from api.schemas.parsing import OPENAI, parse
from api.schemas.query import natural
from api.service import NewJob
from common.errors import InvalidRequest, JobNotFound, NotFound, SLMError
from common.jobs.job import JobKind, JobRecord

NAMES = {"prompt": "input", "messages": "input", "response_format": "text.format"}  # see `Endpoint.names`
CANCEL_WAIT_S = 5.0  # for a running job to reach its next token

responses = Blueprint("responses", __name__, url_prefix="/v1/responses")
set_access(responses, Access.USER)


@responses.post("")
def create() -> Response:
    """Begin a response: wait for it, read it as it comes, or come back for it."""
    body = parse(ResponseBody, json_object(json_text()), OPENAI)
    kind = JobKind.STREAM if body.stream else JobKind.GENERATE
    options = keyed(job_options(body, is_async=body.background), body)
    new = NewJob(caller().owner, kind, body.to_params().to_dict(), options)
    if not services().jobs.is_repeat(new):
        catalogue().get(body.model)
    if body.background and not body.stream:
        return _leave_alone(new)
    return _stay(body, new)


@responses.get("/<response_id>")
def show(response_id: str) -> Response:
    """The response as it stands, or its events from any one on."""
    is_stream, after = _wanted_events()
    record = _find(response_id)
    if not is_stream:
        return jsonify(_object(services().jobs.poll(record.id, caller()).record))
    open_stream()
    job = services().jobs.attach(record.id, -1, caller())
    assert job is not None  # noqa: S101 - from its beginning, a job always has something to tell
    happening = job.story(pulse_s=services().settings.heartbeat_s)
    return stream_response(frames(_event_stream(record), happening, after=after), job.close)


@responses.post("/<response_id>/cancel")
def cancel(response_id: str) -> Response:
    """Ask for the end of a response that goes on in the background; tells how it stands then."""
    take_turn()
    record = _find(response_id)
    if not _is_background(record):
        raise InvalidRequest("Only a response with background: true can be cancelled.", param="response_id")
    services().jobs.cancel(record.id, caller())
    end_turn()
    if (job := services().jobs.attach(record.id, -1, caller())) is not None:
        with job:
            job.wait(CANCEL_WAIT_S)
    return jsonify(_object(record))


def _leave_alone(new: NewJob) -> Response:
    entered = services().jobs.submit(new)
    note_job(entered.job_id, is_repeat=entered.is_repeat)
    return jsonify(_object(services().jobs.get(entered.job_id, caller())))


def _stay(body: ResponseBody, new: NewJob) -> Response:
    if body.stream:
        open_stream()
    check_presence(new)
    generations = Generations(services().jobs, caller(), [new])
    note_job(generations.first.id, is_repeat=generations.first.is_repeat)
    with ExitStack() as at_error:
        at_error.push(generations)
        try:
            if not body.stream:
                return _wait(generations)
            generations.raise_early_error(FIRST_EVENT_WAIT_S)
        except SLMError as err:
            raise err.renamed(NAMES) from err
        record = services().jobs.get(generations.first.id, caller())
        at_error.pop_all()
    happening = generations.first.story(pulse_s=services().settings.heartbeat_s)
    return stream_response(frames(_event_stream(record), happening), generations.close)


def _wait(generations: Generations) -> Response:
    with ExitStack() as at_end:
        at_end.callback(watch_client(request.environ, generations.abandon))
        generations.wait()
    return jsonify(_object(services().jobs.get(generations.first.id, caller())))


def _find(response_id: str) -> JobRecord:
    """Raises `NotFound`; also for a response that was not to be stored, and for a job that is none."""
    missing = NotFound(f"There is no response {response_id[:60]!r}.", param="response_id")
    if not response_id.startswith(ID_PREFIX):
        raise missing
    try:
        record = services().jobs.get(response_id.removeprefix(ID_PREFIX), caller())
    except JobNotFound as err:
        raise missing from err
    if not _notes(record).get("store"):
        raise missing
    return record


def _notes(record: JobRecord) -> Json:
    return dict(record.params.get("notes", {}).get("response", {}))


def _is_background(record: JobRecord) -> bool:
    return bool(_notes(record)["background"])


def _event_stream(record: JobRecord) -> ResponseEvents:
    jobs, who = services().jobs, caller()
    return ResponseEvents(record, lambda: jobs.get(record.id, who))


def _object(record: JobRecord) -> ResponseObject:
    story = _event_stream(record)
    for event in services().jobs.told(record.id):
        story.take(event)
    return story.to_dict()


def _wanted_events() -> tuple[bool, int]:
    """Whether the events are wanted, and behind which."""
    for name in request.args.keys() - {"stream", "starting_after"}:
        raise InvalidRequest(f"{name[:60]!r} is not supported; known: starting_after, stream", param=name[:60])
    stream, after = request.args.get("stream", "false"), request.args.get("starting_after")
    if stream not in ("true", "false"):
        raise InvalidRequest(f"stream must be true or false; got {stream[:60]!r}", param="stream")
    if after is None:
        return stream == "true", -1
    if stream == "false":
        raise InvalidRequest("starting_after can only be used with stream=true", param="starting_after")
    if (number := natural(after)) is None:
        raise InvalidRequest(
            f"starting_after must be the number of an event; got {after[:60]!r}", param="starting_after"
        )
    return True, number
