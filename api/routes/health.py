"""Whether the process is up, and whether the server could generate now."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.auth.access import Access, set_access
from api.current import services
from api.gate import is_admin
from api.schemas.server import Health

health = Blueprint("health", __name__)
set_access(health, Access.PUBLIC)


@health.get("/healthz")
def healthz() -> Response:
    """The process is up; asks nobody else."""
    return jsonify(Health(status="ok"))


@health.get("/readyz")
def readyz() -> Response:
    """Redis answers and a worker holds the model; otherwise 503 with what is missing."""
    services().overview.check_ready(in_full=is_admin())
    return jsonify(Health(status="ready"))
