"""What an operator does with the jobs that were set aside because they saw too many workers die."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.auth.access import Access, set_access
from api.current import services, take_turn
from api.jobs import answers
from api.routes.jobs import accept

quarantine = Blueprint("quarantine", __name__)
set_access(quarantine, Access.ADMIN)


@quarantine.get("/slm/quarantine")
def list_quarantine() -> Response:
    """The jobs that were set aside."""
    return jsonify(answers.quarantine(services().jobs.quarantined()))


@quarantine.post("/slm/jobs/<job_id>/retry")
def retry_job(job_id: str) -> Response:
    """Try it again, as a new job."""
    take_turn()
    return accept(services().jobs.retry(job_id))


@quarantine.delete("/slm/quarantine/<job_id>")
def drop_job(job_id: str) -> Response:
    """Give it up: its record expires like any other's."""
    services().jobs.drop(job_id)
    return jsonify(answers.dropped(job_id))
