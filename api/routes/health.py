"""Probes: whether the process is up, and whether the server can generate now."""

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
    """Report that the process is up, without checking anything else."""
    return jsonify(Health(status="ok"))


@health.get("/readyz")
def readyz() -> Response:
    """Report that Redis answers and a worker has loaded the model; otherwise 503 with the reason."""
    services().overview.check_ready(in_full=is_admin())
    return jsonify(Health(status="ready"))
