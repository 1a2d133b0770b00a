"""Shows the caller's account."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.auth.access import Access, set_access
from api.current import caller, services
from api.jobs import response_bodies

usage = Blueprint("usage", __name__)
set_access(usage, Access.USER)


@usage.get("/slm/usage")
def show_usage() -> Response:
    """Return who the caller is, and the totals of their ended jobs."""
    return jsonify(response_bodies.usage(services().jobs.usage(caller().owner), caller().role))
