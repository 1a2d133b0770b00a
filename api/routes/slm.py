"""The routes of the user's document: info, load, unload, generate, stream."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.auth.access import Access, set_access
from api.current import caller, note_job, open_stream, services
from api.jobs import response_bodies
from api.jobs.request import read_job_request
from api.jobs.sse import sse
from api.overview import without_internals
from api.routes.jobs import answer, submit_job
from api.schemas.generation import GenerateBody
from api.schemas.server import ModelBody
from common.jobs.job import JobKind

slm = Blueprint("slm", __name__, url_prefix="/slm")
set_access(slm, Access.USER, load=Access.ADMIN, unload=Access.ADMIN)


@slm.get("/info")
def info() -> Response:
    """Describe the server, its model and its workers."""
    snapshot = services().overview.snapshot()
    workers = snapshot.workers if caller().is_admin else without_internals(snapshot.workers)
    return jsonify(response_bodies.info(snapshot, workers))


@slm.post("/load")
def load() -> Response:
    """Load the model on every worker."""
    return answer(read_job_request(JobKind.LOAD, ModelBody))


@slm.post("/unload")
def unload() -> Response:
    """Unload the model on every worker."""
    return answer(read_job_request(JobKind.UNLOAD, ModelBody))


@slm.post("/generate")
def generate() -> Response:
    """Generate an answer and return it as a whole."""
    return answer(read_job_request(JobKind.GENERATE, GenerateBody))


@slm.post("/stream")
def stream() -> Response:
    """Generate an answer and stream it piece by piece."""
    wanted = read_job_request(JobKind.STREAM, GenerateBody)
    if wanted.is_async:
        return submit_job(wanted.job)
    open_stream()
    job = services().jobs.start(wanted.job)
    note_job(job.id, job.model, is_repeat=job.is_repeat)
    return sse.open(job)
