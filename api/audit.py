"""Records every change that a request of an operator has made: to keys, models, adapters, aliases, training runs."""

from __future__ import annotations

import logging

from flask import Flask, Response, current_app, g, request
from redis.exceptions import RedisError

from api.auth.access import Access, access_of
from api.current import caller, services
from api.openai.fine_tuning.objects import JOB_PREFIX
from common.owners.audit_log import Change

_OF_OPERATORS = (Access.ADMIN, Access.TRAINER)
_READING = ("GET", "HEAD", "OPTIONS")

log = logging.getLogger(__name__)


def register_audit(app: Flask) -> None:
    """Record each successful request that only operators may send, unless it reads; and those with a `note_change`."""
    app.after_request(_record)


def _record(response: Response) -> Response:
    if response.status_code < 400 and _is_change():
        try:
            services().audit.add(_change())
        except RedisError as err:  # the change was made
            log.warning("the audit log has no entry of %s: %s", _change(), err)
    return response


def _is_change() -> bool:
    if g.get("is_repeat"):  # of a request that is recorded already
        return False
    if "change" in g:
        return True
    is_known = request.endpoint is not None and "caller" in g
    return (
        is_known and request.method not in _READING and access_of(current_app, str(request.endpoint)) in _OF_OPERATORS
    )


def _change() -> Change:
    path = dict(request.view_args or {})
    job_id = path.pop("job_id", "").removeprefix(JOB_PREFIX)
    target, details = g.get("change") or (next(iter(path.values()), ""), "")
    action = str(request.endpoint).rpartition(".")[2]
    return Change(caller().owner, action, target, details, g.get("job_id") or job_id)
