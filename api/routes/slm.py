"""The documented routes: what is loaded, load, generate, stream, unload."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from api import answers
from api.current import note_job, services
from api.routes.jobs import run_job, submit_job, wants_no_wait
from api.schemas import GenerateBody, ModelBody, parse_body
from api.sse import sse
from common.jobs import JobKind

slm = Blueprint("slm", __name__, url_prefix="/slm")


@slm.get("/info")
def info() -> Response:
    """What is served, by which workers."""
    snapshot = services().overview.snapshot()
    return jsonify(answers.info(snapshot.workers, waiting=snapshot.waiting, running=snapshot.running))


@slm.post("/load")
def load() -> Response:
    """Have every worker load the model."""
    return _change_model(JobKind.LOAD)


@slm.post("/unload")
def unload() -> Response:
    """Have every worker give the model's memory back."""
    return _change_model(JobKind.UNLOAD)


def _change_model(kind: JobKind) -> Response:
    body = parse_body(ModelBody, _body())
    return (submit_job if wants_no_wait(body.run_async) else run_job)(kind, {})


@slm.post("/generate")
def generate() -> Response:
    """Generate an answer and give it at once."""
    body = parse_body(GenerateBody, _body())
    params = body.to_params().to_dict()
    return (submit_job if wants_no_wait(body.run_async) else run_job)(JobKind.GENERATE, params)


@slm.post("/stream")
def stream() -> Response:
    """Generate an answer and give it piece by piece."""
    body = parse_body(GenerateBody, _body())
    params = body.to_params().to_dict()
    if wants_no_wait(body.run_async):
        return submit_job(JobKind.STREAM, params)
    job = services().jobs.start(JobKind.STREAM, params)
    note_job(job.id)
    return sse.open(job)


def _body() -> bytes:
    """The request's body. One that was sent in chunks comes cut off at the limit, without a word."""
    raw = request.get_data()
    if request.content_length is None and len(raw) >= services().settings.max_body_bytes:
        raise RequestEntityTooLarge
    return raw
