"""Anthropic's routes: messages, and their number of tokens."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.anthropic.answers import NAMES, MessageStream, whole
from api.auth.access import Access, set_access
from api.current import caller, request_id, services
from api.jobs.request import job_options, keyed, read_body
from api.jobs.running import completed, opened, token_count
from api.jobs.sse import stream_response, together
from api.schemas.anthropic.requests import CountTokensBody, MessagesBody
from api.schemas.anthropic.responses import TokenCount
from api.schemas.job_options import RequestOptions
from api.service import NewJob
from common.jobs.job import JobKind

anthropic = Blueprint("anthropic", __name__, url_prefix="/v1/messages")
set_access(anthropic, Access.USER)


@anthropic.post("")
def create_message() -> Response:
    """Generate the assistant's next message, whole or as a stream."""
    body = read_body(MessagesBody)
    options = keyed(job_options(RequestOptions(), body.model, is_async=False), body)
    kind = JobKind.STREAM if body.stream else JobKind.GENERATE
    new = [NewJob(caller().owner, kind, body.to_params().to_dict(), options)]
    if not body.stream:
        _, (choice,) = completed(new, NAMES)
        return jsonify(whole(body, choice))
    record, generations = opened(new, NAMES)
    stream = MessageStream(body, record.id, generations, request_id())
    return stream_response(together(stream.frames(pulse_s=services().settings.heartbeat_s)), generations.close)


@anthropic.post("/count_tokens")
def count_tokens() -> Response:
    """Count the tokens of a conversation as the model sees it."""
    body = read_body(CountTokensBody)
    options = job_options(RequestOptions(), body.model, is_async=False)
    return jsonify(TokenCount(input_tokens=token_count(body.to_prompt(), options, NAMES)))
