"""The headers that requests and answers may have."""

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
    "A name of yours for this request, of 1 to 128 letters, digits and `._:-`: answers and log lines have it. "
    "Anything else is replaced.",
)
IDEMPOTENCY_KEY = Parameter(
    "header",
    "Idempotency-Key",
    {"type": "string", "pattern": r"^[\x20-\x7e]{1,255}$"},
    "Makes it safe to send the request again: the same request under the same key gets the first one's job.",
)
PREFER = Parameter(
    "header",
    "Prefer",
    {"type": "string"},
    "`respond-async` answers 202 at once, as the field `async` does (RFC 7240).",
)
LAST_EVENT_ID = Parameter(
    "header",
    "Last-Event-ID",
    {"type": "integer", "minimum": 0},
    "The id of the last event that you have: the stream goes on behind it. Browsers send it by themselves.",
)

ANSWER_HEADERS: dict[str, tuple[Schema, str]] = {
    "X-Request-Id": ({"type": "string"}, "The request's id: yours, or a new one. Log lines have it."),
    "X-Job-Id": (UUID, "The job behind the answer."),
    "Location": ({"type": "string", "format": "uri-reference"}, "Where the job can be asked for."),
    "Idempotency-Replayed": ({"const": "true"}, "The Idempotency-Key had been used: this is the first request's job."),
    "Retry-After": (
        {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S},
        "Seconds after which to try again, where that can help.",
    ),
    "X-RateLimit-Limit": ({"type": "integer", "minimum": 0}, "The limit of your key that applies."),
    "X-RateLimit-Remaining": ({"type": "integer", "minimum": 0}, "What is left of it."),
    "X-RateLimit-Reset": ({"type": "integer", "minimum": 0}, "When more of it is there: seconds since the epoch."),
    "X-Should-Retry": ({"enum": ["true", "false"]}, "Whether OpenAI's clients try again."),
    "WWW-Authenticate": ({"const": "Bearer"}, "How to say who you are."),
}

ALWAYS = ("X-Request-Id",)
JOB = ("X-Job-Id", "Location")
REPEATABLE = (*JOB, "Idempotency-Replayed")
RATE = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
