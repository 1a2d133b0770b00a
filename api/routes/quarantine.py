"""Routes for operators: the dead letters, jobs that were set aside because too many of their workers died."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.auth.access import Access, set_access
from api.current import begin_work, services
from api.jobs import response_bodies
from api.routes.jobs import accept

quarantine = Blueprint("quarantine", __name__)
set_access(quarantine, Access.ADMIN)


@quarantine.get("/slm/quarantine")
def list_quarantine() -> Response:
    """List the dead letters."""
    return jsonify(response_bodies.quarantine(services().jobs.dead_letters()))


@quarantine.post("/slm/jobs/<job_id>/retry")
def retry_job(job_id: str) -> Response:
    """Submit a dead letter again, as a new job."""
    begin_work()
    return accept(services().jobs.retry(job_id))


@quarantine.delete("/slm/quarantine/<job_id>")
def drop_job(job_id: str) -> Response:
    """Remove a job from the dead letters; its record then expires like any other."""
    services().jobs.drop(job_id)
    return jsonify(response_bodies.dropped(job_id))
