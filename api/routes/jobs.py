"""Jobs by their id, and how a request becomes one."""

from __future__ import annotations

from contextlib import ExitStack

from flask import Blueprint, Response, jsonify, request

from api.auth.access import Access, set_access
from api.current import caller, note_job, services
from api.http.disconnect import watch_client
from api.jobs import answers
from api.jobs.live_job import LiveJob
from api.schemas.query import parse_limit
from api.service import Entered, NewJob
from common.errors import Cancelled, ServerStopping
from common.jobs.job import JobState
from common.jobs.store import QueuePosition

jobs = Blueprint("jobs", __name__)
set_access(jobs, Access.USER)


@jobs.get("/slm/jobs")
def list_jobs() -> Response:
    """The caller's newest jobs; an admin's listing has everybody's."""
    return jsonify(answers.jobs(services().jobs.newest(parse_limit(request.args.get("limit")), caller())))


@jobs.get("/slm/jobs/<job_id>")
def show_job(job_id: str) -> Response:
    """One job as it stands."""
    return jsonify(answers.job(services().jobs.poll(job_id, caller())))


@jobs.delete("/slm/jobs/<job_id>")
def cancel_job(job_id: str) -> Response:
    """Ask for the end of a job."""
    return jsonify(answers.cancellation(job_id, services().jobs.cancel(job_id, caller())))


def submit_job(job: NewJob) -> Response:
    """Enter a job; the client will ask for it."""
    return accept(services().jobs.submit(job))


def accept(entered: Entered) -> Response:
    """The answer for a job that goes on without its client."""
    note_job(entered.job_id, is_repeat=entered.is_repeat)
    return _accepted(entered.job_id, entered.state, entered.place)


def run_job(new: NewJob) -> Response:
    """Enter a job and answer with what it brings; with 202 when it takes longer than a client is kept waiting.

    Raises:
        SLMError: the job failed with it.
        Cancelled: somebody cancelled the job.
    """
    jobs = services().jobs
    with jobs.start(new) as job, ExitStack() as at_end:
        note_job(job.id, is_repeat=job.is_repeat)
        at_end.callback(watch_client(request.environ, lambda: jobs.abandon(job, new)))
        if _must_come_back(job):
            jobs.let_go_on(job.id)
    return _outcome(job.id)


def _must_come_back(job: LiveJob) -> bool:
    """Wait for the job; whether its client is to ask for it later, because it takes too long or the server stops."""
    try:
        return job.wait(services().settings.sync_timeout_s)
    except ServerStopping:
        return True


def _outcome(job_id: str) -> Response:
    view = services().jobs.view(job_id)
    record = view.record
    if record.error is not None:
        raise record.error
    if record.state is JobState.CANCELLED:
        raise Cancelled("The job was cancelled.")
    if not record.state.is_terminal:
        return _accepted(job_id, record.state, view.place)
    return jsonify(answers.outcome(record))


def _accepted(job_id: str, state: JobState, place: QueuePosition | None) -> Response:
    response = jsonify(answers.accepted(job_id, state, place))
    response.status_code = 202
    return response
