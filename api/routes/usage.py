"""What the caller has used."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api.auth.access import Access, set_access
from api.current import caller, services
from api.jobs import answers

usage = Blueprint("usage", __name__)
set_access(usage, Access.USER)


@usage.get("/slm/usage")
def show_usage() -> Response:
    """The caller's account."""
    return jsonify(answers.usage(services().jobs.usage(caller().owner)))
