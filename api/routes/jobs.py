"""Routes that show and cancel jobs, and functions for all routes that submit jobs."""

from __future__ import annotations

from contextlib import ExitStack

from flask import Blueprint, Response, jsonify, request

from api.auth.access import Access, set_access
from api.current import caller, note_change, note_job, services
from api.http.disconnect import watch_client
from api.jobs import response_bodies
from api.jobs.live_job import LiveJob
from api.jobs.request import JobRequest
from api.schemas.query import parse_limit, parse_search
from api.service import AcceptedJob, NewJob
from common.errors import Cancelled, ServerStopping
from common.jobs.job import JobState
from common.jobs.store import QueuePosition

jobs = Blueprint("jobs", __name__)
set_access(jobs, Access.USER)


@jobs.get("/slm/jobs")
def list_jobs() -> Response:
    """List the caller's newest jobs, or search them; for an admin, everybody's."""
    limit, text = parse_limit(request.args.get("limit")), parse_search(request.args.get("q"))
    jobs = services().jobs
    found = jobs.newest(limit, caller()) if text is None else jobs.search(text, limit, caller())
    return jsonify(response_bodies.jobs(found, is_admin=caller().is_admin))


@jobs.get("/slm/jobs/<job_id>")
def show_job(job_id: str) -> Response:
    """Show one job."""
    return jsonify(response_bodies.job(services().jobs.poll(job_id, caller())))


@jobs.delete("/slm/jobs/<job_id>")
def cancel_job(job_id: str) -> Response:
    """Request the cancellation of a job."""
    if services().jobs.get(job_id, caller()).owner != caller().owner:  # only admins may
        note_change("")
    return jsonify(response_bodies.cancellation(job_id, services().jobs.cancel(job_id, caller())))


def answer(wanted: JobRequest) -> Response:
    """Submit the job; respond with its result, or immediately if the client does not wait. Raises as `run_job`."""
    return submit_job(wanted.job) if wanted.is_async else run_job(wanted.job)


def submit_job(job: NewJob) -> Response:
    """Submit a job that the client does not wait for."""
    return accept(services().jobs.submit(job))


def accept(accepted_job: AcceptedJob) -> Response:
    """Respond to a client that does not wait for its job."""
    note_job(accepted_job.job_id, accepted_job.model, is_repeat=accepted_job.is_repeat)
    return _accepted(accepted_job.job_id, accepted_job.state, accepted_job.queue_position)


def run_job(new: NewJob) -> Response:
    """Submit a job and respond with its result, or with 202 if it takes longer than a client may wait.

    Raises:
        SLMError: the job failed with this error.
        Cancelled: somebody cancelled the job.
    """
    jobs = services().jobs
    with jobs.start(new) as job, ExitStack() as at_end:
        note_job(job.id, job.model, is_repeat=job.is_repeat)
        at_end.callback(watch_client(request.environ, lambda: jobs.abandon(job, new)))
        if _must_poll(job):
            jobs.keep_unread(job.id)
    return _respond(job.id)


def _must_poll(job: LiveJob) -> bool:
    """Wait for the job; return whether its client must poll, because the job takes too long or the server stops."""
    try:
        return job.wait(services().settings.sync_timeout_s)
    except ServerStopping:
        return True


def _respond(job_id: str) -> Response:
    view = services().jobs.view(job_id)
    record = view.record
    if record.error is not None:
        raise record.error
    if record.state is JobState.CANCELLED:
        raise Cancelled("The job was cancelled.")
    if not record.state.is_terminal:
        return _accepted(job_id, record.state, view.queue_position)
    response = jsonify(response_bodies.result(record))
    response.status_code = response_bodies.status_of_result(record)
    return response


def _accepted(job_id: str, state: JobState, queue_position: QueuePosition | None) -> Response:
    response = jsonify(response_bodies.accepted(job_id, state, queue_position))
    response.status_code = 202
    return response
