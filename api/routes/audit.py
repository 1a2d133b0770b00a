"""The route that lists what operators did."""

from __future__ import annotations

import re

from flask import Blueprint, Response, jsonify, request

from api.auth.access import Access, set_access
from api.current import services
from api.schemas.audit import AuditEntries, AuditEntry
from api.schemas.query import parse_limit
from api.schemas.shown import shown
from api.times import iso
from common.errors import InvalidRequest
from common.owners.audit_log import ID, Entry

audit = Blueprint("audit", __name__)
set_access(audit, Access.ADMIN)


@audit.get("/slm/audit")
def list_changes() -> Response:
    """List what operators did, newest first."""
    after = request.args.get("after")
    if after is not None and not re.fullmatch(ID, after):
        raise InvalidRequest(f"after must be the last_id of the previous page; got {shown(after)}", param="after")
    page = services().audit.newest(parse_limit(request.args.get("limit")), after=after)
    entries = [_shown(one) for one in page.items]
    last_id = entries[-1]["id"] if entries else None
    return jsonify(AuditEntries(success=True, entries=entries, last_id=last_id, has_more=page.has_more))


def _shown(entry: Entry) -> AuditEntry:
    did = entry.change
    return AuditEntry(
        id=entry.id,
        at=iso(entry.at_ms),
        owner=did.owner,
        action=did.action,
        target=did.target or None,
        details=did.details or None,
        job_id=did.job_id or None,
    )
