"""Describes the headers of requests and responses."""

from __future__ import annotations

from api.reference.operation import Parameter, Schema
from api.schemas.job_options import MAX_WAIT_S
from common import ids

UUID = {"type": "string", "format": "uuid", "pattern": f"^{ids.UUID}$"}
EXAMPLE_JOB = "3f2b8c1e-5d47-4a90-9b6e-0c1d2e3f4a5b"

REQUEST_ID = Parameter(
    "header",
    "X-Request-Id",
    {"type": "string"},
    "Your id for this request, 1 to 128 letters, digits and `._:-`, which the response and log lines repeat. "
    "Any other value is replaced.",
)
IDEMPOTENCY_KEY = Parameter(
    "header",
    "Idempotency-Key",
    {"type": "string", "pattern": r"^[\x20-\x7e]{1,255}$"},
    "Makes it safe to repeat the request: the same request with the same key gets the job of the first.",
)
PREFER = Parameter(
    "header",
    "Prefer",
    {"type": "string"},
    "`respond-async` gets an immediate 202 response, like the field `async` (RFC 7240).",
)
LAST_EVENT_ID = Parameter(
    "header",
    "Last-Event-ID",
    {"type": "integer", "minimum": 0},
    "The id of the last event that you have received; the stream continues after it. Browsers send it automatically.",
)

RESPONSE_HEADERS: dict[str, tuple[Schema, str]] = {
    "X-Request-Id": ({"type": "string"}, "The request's id, yours or a new one. Log lines contain it."),
    "X-Job-Id": (UUID, "The id of the request's job."),
    "X-Model": (
        {"type": "string"},
        "The model of the job: a version of an adapter such as `support@3`, or a base model; percent-encoded.",
    ),
    "X-Ignored-Fields": (
        {"type": "string"},
        "The fields of your request that cannot change the answer and were ignored, such as `user, messages[].id`.",
    ),
    "Location": ({"type": "string", "format": "uri-reference"}, "The URL of the job."),
    "Idempotency-Replayed": (
        {"const": "true"},
        "The Idempotency-Key was used before, and this is the job of the first request.",
    ),
    "Retry-After": (
        {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S},
        "Seconds after which the request can be repeated, if that can help.",
    ),
    "X-RateLimit-Limit": ({"type": "integer", "minimum": 0}, "The rate limit of your key."),
    "X-RateLimit-Remaining": ({"type": "integer", "minimum": 0}, "The number of requests left."),
    "X-RateLimit-Reset": (
        {"type": "integer", "minimum": 0},
        "When more requests are available, in seconds since the epoch.",
    ),
    "X-Should-Retry": ({"enum": ["true", "false"]}, "Whether OpenAI's clients should retry."),
    "WWW-Authenticate": ({"const": "Bearer"}, "How to authenticate."),
}

ALWAYS = ("X-Request-Id",)
JOB = ("X-Job-Id", "X-Model", "Location")
REPEATABLE = (*JOB, "Idempotency-Replayed")
GENERATING = (*REPEATABLE, "X-Ignored-Fields")
RATE = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
