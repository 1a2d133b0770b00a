"""The routes for responses, which can run in the background and be found again by id."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, Response, jsonify, request

from api.auth.access import Access, set_access
from api.current import begin_work, caller, end_work, note_job, open_stream, services
from api.jobs.request import answer_place, job_options, keyed, read_body
from api.jobs.running import completed, opened, token_count
from api.jobs.sse import stream_response, together
from api.openai.conversations.history import prompt_messages
from api.openai.conversations.items import new_messages
from api.openai.responses import input_items
from api.openai.responses.body import InputTokensBody, ResponseBody
from api.openai.responses.builder import ID_PREFIX, Json, ResponseBuilder
from api.openai.responses.history import asked, said
from api.openai.responses.input import ResponseInput
from api.openai.responses.stream import frames
from api.schemas.job_options import RequestOptions
from api.schemas.openai.responses import DeletedResponse, InputTokens, ResponseObject
from api.schemas.query import natural
from api.service import NewJob
from common.conversations.conversation import AnswerPlace
from common.errors import InvalidRequest, JobNotFound, NotFound
from common.jobs.job import JobKind, JobRecord
from common.jobs.prompts import Message
from common.jobs.store import JobOptions

NAMES = {"prompt": "input", "messages": "input", "response_format": "text.format"}  # see `Endpoint.names`
CANCEL_WAIT_S = 5.0  # for a running job to reach its next token

responses = Blueprint("responses", __name__, url_prefix="/v1/responses")
set_access(responses, Access.USER)


@responses.post("")
def create() -> Response:
    """Create a response: wait for it, stream it, or run it in the background."""
    body = read_body(ResponseBody)
    kind = JobKind.STREAM if body.stream else JobKind.GENERATE
    options = keyed(job_options(body, body.model, is_async=body.background), body)
    options = _with_input(options, body)
    params = body.to_params(_history(body, options.place))
    new = NewJob(caller().owner, kind, params.to_dict(), options)
    if body.background and not body.stream:
        return _leave_alone(new)
    return _stay(body, new)


@responses.get("/<response_id>")
def show(response_id: str) -> Response:
    """Show a response, or stream its events after a given one."""
    is_stream, after = _wanted_events()
    record = _find(response_id)
    if not is_stream:
        return jsonify(_object(services().jobs.poll(record.id, caller()).record))
    open_stream()
    job = services().jobs.attach(record.id, -1, caller())
    assert job is not None  # noqa: S101 - after -1 a job always has more events
    updates = job.updates(pulse_s=services().settings.heartbeat_s)
    return stream_response(together(frames(_builder(record), updates, after=after)), job.close)


@responses.post("/<response_id>/cancel")
def cancel(response_id: str) -> Response:
    """Cancel a background response; return its state then."""
    begin_work()
    record = _find(response_id)
    if not _is_background(record):
        raise InvalidRequest("Cannot cancel a synchronous response.", param="response_id")  # OpenAI's words
    _end(record)
    return jsonify(_object(record))


@responses.delete("/<response_id>")
def delete(response_id: str) -> Response:
    """Delete a response; one that is still generated is cancelled first."""
    begin_work()
    record = _find(response_id)
    if not record.state.is_terminal:
        _end(record)
    services().jobs.forget(record.id, caller())
    return jsonify(DeletedResponse(id=response_id, object="response", deleted=True))


@responses.get("/<response_id>/input_items")
def list_input_items(response_id: str) -> Response:
    """List what the response was asked."""
    record = _find(response_id)
    return jsonify(input_items.page(record.id, asked(record)))


@responses.post("/input_tokens")
def count_input_tokens() -> Response:
    """Count the tokens of an input as the model sees it."""
    body = read_body(InputTokensBody)
    options = job_options(RequestOptions(), body.model, is_async=False)
    count = token_count(body.to_prompt(_history(body, answer_place(body.conversation))), options, NAMES)
    return jsonify(InputTokens(object="response.input_tokens", input_tokens=count))


def _with_input(options: JobOptions, body: ResponseBody) -> JobOptions:
    """Return the options such that the conversation, if any, gets the input before the answer."""
    if options.place is None:
        return options
    return replace(options, place=replace(options.place, given=new_messages(body.items)))


def _history(body: ResponseInput, place: AnswerPlace | None) -> list[Message]:
    """Return the messages of the conversation or response that the request continues, if any."""
    if place is not None:
        return prompt_messages(services().conversations.read(place.conversation_id).path_to(place.parent_id))
    if body.previous_response_id is None:
        return []
    record = _find(body.previous_response_id, "previous_response_id")
    return said(record, services().jobs.logged_events(record.id))


def _end(record: JobRecord) -> None:
    """Cancel the job, and wait until it has ended or `CANCEL_WAIT_S` have passed."""
    services().jobs.cancel(record.id, caller())
    end_work()
    if (job := services().jobs.attach(record.id, -1, caller())) is not None:
        with job:
            job.wait(CANCEL_WAIT_S)


def _leave_alone(new: NewJob) -> Response:
    accepted_job = services().jobs.submit(new)
    note_job(accepted_job.job_id, accepted_job.model, is_repeat=accepted_job.is_repeat)
    return jsonify(_object(services().jobs.get(accepted_job.job_id, caller())))


def _stay(body: ResponseBody, new: NewJob) -> Response:
    if not body.stream:
        record, _ = completed([new], NAMES)
        return jsonify(_object(services().jobs.get(record.id, caller())))
    record, generations = opened([new], NAMES)
    updates = generations.first.updates(pulse_s=services().settings.heartbeat_s)
    return stream_response(together(frames(_builder(record), updates)), generations.close)


def _find(response_id: str, param: str = "response_id") -> JobRecord:
    """Return the response's job. Raises `NotFound`, also if the response is not stored or the job is not a response."""
    missing = NotFound(f"Response with id {response_id[:60]!r} not found.", param=param)  # OpenAI's words
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


def _builder(record: JobRecord) -> ResponseBuilder:
    jobs, who = services().jobs, caller()
    return ResponseBuilder(record, lambda: jobs.get(record.id, who))


def _object(record: JobRecord) -> ResponseObject:
    builder = _builder(record)
    for event in services().jobs.logged_events(record.id):
        builder.take(event)
    return builder.to_dict()


def _wanted_events() -> tuple[bool, int]:
    """Return whether the client wants a stream, and the number of the event after which it begins."""
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
