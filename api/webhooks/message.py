"""Builds and signs webhook messages: https://github.com/standard-webhooks/standard-webhooks, version 1."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from standardwebhooks import Webhook

from api import __version__
from api.jobs import response_bodies
from api.service import JobView


def body_of(view: JobView) -> bytes:
    """Return the message about an ended job."""
    return json.dumps(response_bodies.webhook(view)).encode()


def headers(key: bytes, job_id: str, body: bytes, *, now_s: int) -> dict[str, str]:
    """Return the headers of an attempt at `now_s` (seconds since the epoch). All attempts for a job have one id."""
    message_id = f"msg_{job_id}"
    return {
        "Content-Type": "application/json",
        "User-Agent": f"slm-server/{__version__}",
        "webhook-id": message_id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": Webhook(key).sign(message_id, datetime.fromtimestamp(now_s, UTC), body.decode()),
    }
