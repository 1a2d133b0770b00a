"""From an HTTP request to the job that it asks for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from hashlib import sha256

from flask import request

from api.current import caller, services
from api.http.disconnect import has_gone
from api.http.request_body import json_text
from api.schemas.generation import GenerateBody
from api.schemas.job_options import Body, RequestOptions
from api.schemas.json_object import json_object
from api.schemas.parsing import SLM, parse
from api.schemas.strict import Strict
from api.schemas.webhook_target import Target
from api.service import NewJob
from api.webhooks.addresses import is_public, literal
from common.errors import Cancelled, InvalidRequest
from common.jobs.job import JobKind
from common.jobs.store import JobOptions

_SANE_KEY = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job, and whether its client waits for it."""

    job: NewJob
    is_async: bool


def read_job_request(kind: JobKind, schema: type[Body]) -> JobRequest:
    """Read the present request.

    Raises:
        InvalidRequest: it is no JSON object, or a field is wrong.
        UnsupportedMediaType, RequestEntityTooLarge: as `json_text`.
        Cancelled: as `check_presence`.
    """
    text = json_text()
    body = parse(schema, json_object(text) if text.strip() else {}, SLM)
    is_async = _wants_no_wait(body)
    options = job_options(body, is_async=is_async) if isinstance(body, GenerateBody) else _plain_options(kind, is_async)
    if key := idempotency_key():
        options = replace(options, idempotency_key=key, fingerprint=fingerprint(body))
    job = NewJob(caller().owner, kind, body.to_params(), options)
    check_presence(job)
    return JobRequest(job, is_async)


def check_presence(job: NewJob) -> None:
    """To be asked just before a job is entered: its turn may have come after its client has lost patience.

    Raises:
        Cancelled: the client has gone, and has no way back to this job.
    """
    if not job.can_be_found_again and has_gone(request.environ):
        raise Cancelled("The client has gone.")


def _plain_options(kind: JobKind, is_async: bool) -> JobOptions:
    """Of a job without options of its own. Loading goes on without its client: everybody gets something of it."""
    needs_reader = kind is JobKind.TOKENIZE and not is_async
    return JobOptions(reader_grace_s=services().settings.reader_grace_s if needs_reader else None)


def _wants_no_wait(body: Body) -> bool:
    """Whether the client asked, in the body or by RFC 7240, not to be kept waiting."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return body.run_async or "respond-async" in (one.partition(";")[0].strip().lower() for one in preferences)


def idempotency_key() -> str | None:
    """The request's own; None where it has none. Raises `InvalidRequest`."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _SANE_KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key must be 1 to 255 printable ASCII characters", param="idempotency_key")
    return key


def fingerprint(body: Strict) -> str:
    """What a repeated request must have in common with the first: what the client set, however it wrote it."""
    sent = json.dumps(body.model_dump(mode="json", by_alias=True, exclude_unset=True), sort_keys=True)
    return sha256(f"{request.method} {request.path}\n{sent}".encode()).hexdigest()


def job_options(wanted: RequestOptions, *, is_async: bool) -> JobOptions:
    """The options of a generation whose client waits for it, or does not. Raises `InvalidRequest`."""
    return JobOptions(
        bulk=wanted.priority == "bulk",
        ttl_s=wanted.ttl,
        timeout_s=wanted.timeout,
        reader_grace_s=_reader_grace_s(wanted, is_async=is_async),
        webhook_url=_webhook_url(wanted),
    )


def _webhook_url(wanted: RequestOptions) -> str | None:
    """The URL, as far as it can be judged now: a name is looked up when the message is sent."""
    if wanted.webhook_url is None:
        return None
    settings = services().settings
    if settings.webhook_secret is None:
        raise InvalidRequest(
            "webhook_url cannot be used: this server has no SLM_WEBHOOK_SECRET to sign webhooks with",
            param="webhook_url",
        )
    address = literal(Target.parse(wanted.webhook_url).host)
    if address is not None and not is_public(address) and not settings.webhook_allow_private:
        raise InvalidRequest(f"webhook_url must lead to a public address; got {address}", param="webhook_url")
    return wanted.webhook_url


def _reader_grace_s(wanted: RequestOptions, *, is_async: bool) -> float | None:
    """How long the job goes on when its client has gone; None where that makes no difference."""
    if is_async and wanted.on_disconnect == "cancel":
        raise InvalidRequest(
            'on_disconnect must be "continue" where the client does not wait (async, Prefer: respond-async); '
            "got 'cancel'",
            param="on_disconnect",
        )
    goes_on = is_async or wanted.on_disconnect == "continue"
    return None if goes_on else services().settings.reader_grace_s
