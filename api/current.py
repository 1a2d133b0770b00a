"""Gives access to the current request's context: the application's services, the request id, the caller, the job."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

from flask import current_app, g, request
from redis import Redis

from api.auth.caller import Caller
from api.auth.keyring import Keyring
from api.auth.open_streams import OpenStreams
from api.auth.rates import Allowance, Rates
from api.embedding.model import EmbeddingModel
from api.fingerprints import Fingerprints
from api.http.concurrency import PATIENCE_S, ConcurrencyLimiter
from api.observation.metrics import ApiMetrics
from api.observation.starvation import Starvation
from api.overview import Overview
from api.service import JobService
from common.adapters.registry import AdapterRegistry
from common.adapters.store import AdapterStore
from common.adapters.uploads import Uploads
from common.conversations.store import ConversationStore
from common.observation import context
from common.owners.api_keys import ApiKeyStore
from common.owners.audit_log import AuditLog
from common.owners.batches import BatchStore
from common.owners.feedback import FeedbackStore
from common.owners.files import FileStore
from common.settings import Settings

EXTENSION = "slm"  # the services' key in `app.extensions`
LONG_BODY = 32_768  # bytes; parsing a body of this size takes about a millisecond


@dataclass(frozen=True, slots=True)
class Services:
    """The services that `create_app` builds and the routes use."""

    settings: Settings
    redis: Redis
    jobs: JobService
    overview: Overview
    keyring: Keyring
    rates: Rates
    read_rates: Rates
    streams: OpenStreams
    read_limiter: ConcurrencyLimiter
    short_limiter: ConcurrencyLimiter
    address_limiter: ConcurrencyLimiter
    metrics: ApiMetrics
    starvation: Starvation
    files: FileStore
    batches: BatchStore
    feedback: FeedbackStore
    conversations: ConversationStore
    registry: AdapterRegistry
    uploads: Uploads
    adapter_store: AdapterStore
    fingerprints: Fingerprints
    embedding: EmbeddingModel
    api_keys: ApiKeyStore
    audit: AuditLog


def services() -> Services:
    """Return the application's services."""
    return cast(Services, current_app.extensions[EXTENSION])


def request_id() -> str:
    """Return the id under which this request appears in its response and in the log."""
    return cast(str, g.request_id)


def caller() -> Caller:
    """Return who sent this request. Not available on public routes, which do not identify their callers."""
    return cast(Caller, g.caller)


def note_allowance(allowance: Allowance | None) -> None:
    """Report the remaining allowance in the response's headers, if it is known."""
    g.allowance = allowance


def begin_work(body_size: int = 0) -> None:
    """Wait until the caller's other requests leave room for this one's work; further calls have no effect.

    A short request that submits work does not wait while there are no other owners.

    Raises:
        RateLimitExceeded: there was no room within `PATIENCE_S`.
    """
    if "work" in g:
        return
    limiter, owner = _limiter(body_size)
    with ExitStack() as stack:
        stack.enter_context(limiter.acquire(owner, patience_s=PATIENCE_S))
        g.work = stack.pop_all()


def _limiter(body_size: int) -> tuple[ConcurrencyLimiter, str]:
    """Return the request's limiter and the name it counts under: the caller's, or the address of an unknown caller."""
    if "caller" not in g:
        return services().address_limiter, str(request.remote_addr)
    is_reading = request.method in ("GET", "HEAD") or body_size > LONG_BODY
    return services().read_limiter if is_reading else services().short_limiter, caller().owner


def open_stream() -> None:
    """Count the response as one of the caller's open streams until it ends.

    Raises:
        RateLimitExceeded: the caller has reached the limit of open streams.
    """
    owner = caller().owner
    g.leave_stream = services().streams.enter(owner, services().keyring.limits_of(owner).open_streams)


def end_work() -> None:
    """End the request's own work, after which it only waits. May be called twice."""
    if g.get("work") is not None:
        g.work.close()
        g.work = None


def note_ignored(fields: list[str]) -> None:
    """Name the fields of the body that the server ignores in the response's headers."""
    g.ignored_fields = fields


def note_job(job_id: str, model: str, *, is_repeat: bool) -> None:
    """Name a submitted job and its model in the response's headers, and whether the job existed before.

    Ends the request's work.
    """
    end_work()
    g.job_id = job_id
    g.model = model
    context.add(job_id=job_id)
    g.is_repeat = is_repeat


def note_change(target: str, details: str = "") -> None:
    """Name what this request changes, and its new value, for the audit log (`api/audit.py`)."""
    g.change = (target, details)
