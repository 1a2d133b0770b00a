"""Reads the job that an HTTP request submits."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeVar

from flask import request

from api.current import caller, note_ignored, services
from api.http.disconnect import has_disconnected
from api.http.request_body import json_text
from api.schemas.conversation_place import ConversationPlace
from api.schemas.generation import GenerateBody
from api.schemas.ignored import ignored_in
from api.schemas.job_options import Body, RequestOptions
from api.schemas.json_object import json_object
from api.schemas.parsing import OPENAI, SLM, parse
from api.schemas.prompt_body import PromptBody
from api.schemas.server import ModelBody
from api.schemas.strict import Strict
from api.schemas.webhook_target import Target
from api.service import NewJob
from api.webhooks.addresses import is_public, literal
from common.adapters.names import DEFAULT_ALIAS
from common.conversations.conversation import AnswerPlace
from common.errors import Cancelled, InvalidRequest, NotFound
from common.jobs.job import JobKind
from common.jobs.store import JobOptions

B = TypeVar("B", bound=Strict)

_SANE_KEY = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job, and whether it runs without its client waiting (`is_async`)."""

    job: NewJob
    is_async: bool


def read_job_request(kind: JobKind, schema: type[Body]) -> JobRequest:
    """Read the current request.

    Raises:
        InvalidRequest: the body is not a JSON object, or a field is wrong.
        UnsupportedMediaType, RequestEntityTooLarge: as `json_text`.
        Cancelled: as `check_connected`.
    """
    text = json_text()
    body = parse(schema, json_object(text) if text.strip() else {}, SLM)
    note_ignored(ignored_in(body))
    is_async = body.run_async or wants_no_wait()
    options = _options(body, is_async=is_async)
    if key := idempotency_key():
        options = replace(options, idempotency_key=key, fingerprint=fingerprint(body))
    job = NewJob(caller().owner, kind, body.to_params(), options)
    check_connected(job)
    return JobRequest(job, is_async)


def read_body(schema: type[B]) -> B:
    """Parse the body of the current request, as all APIs but `/slm` do. Raises like `json_text` and `parse`."""
    body = parse(schema, json_object(json_text()), OPENAI)
    note_ignored(ignored_in(body))
    return body


def check_connected(job: NewJob) -> None:
    """Check that the client is still there. Call it just before a job is submitted: the request may have waited.

    Raises:
        Cancelled: the client has disconnected, and could not find the job again.
    """
    if not job.can_be_resumed and has_disconnected(request.environ):
        raise Cancelled("The client has gone.")


def _options(body: Body, *, is_async: bool) -> JobOptions:
    """Return the options of a job. A load needs no reader, because it serves everybody."""
    if isinstance(body, GenerateBody):
        return job_options(body, body.chosen_model, is_async=is_async)
    if isinstance(body, PromptBody):
        grace_s = None if is_async else services().settings.reader_grace_s
        return JobOptions(reader_grace_s=grace_s, model=body.chosen_model)
    return JobOptions(model=(body.model or "") if isinstance(body, ModelBody) else "")


def keyed(options: JobOptions, body: Strict, index: int = 0) -> JobOptions:
    """Return the options with the request's Idempotency-Key, if any; each of its jobs has its own key made from it."""
    key = idempotency_key()
    if key is None:
        return options
    return replace(options, idempotency_key=f"{key}#{index}" if index else key, fingerprint=fingerprint(body))


def wants_no_wait() -> bool:
    """Return whether the client asked for an immediate response by a header (RFC 7240)."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return "respond-async" in (one.partition(";")[0].strip().lower() for one in preferences)


def idempotency_key() -> str | None:
    """Return the request's Idempotency-Key; None if it has none. Raises `InvalidRequest`."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _SANE_KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key must be 1 to 255 printable ASCII characters", param="idempotency_key")
    return key


def fingerprint(body: Strict) -> str:
    """Return a hash of the fields that the client set, in any order; a repeated request must have the same."""
    sent = json.dumps(body.model_dump(mode="json", by_alias=True, exclude_unset=True), sort_keys=True)
    return sha256(f"{request.method} {request.path}\n{sent}".encode()).hexdigest()


def job_options(wanted: RequestOptions, model: str, *, is_async: bool) -> JobOptions:
    """Return the options of a generation with the model of that name. Raises `InvalidRequest`."""
    return JobOptions(
        bulk=wanted.priority == "bulk",
        ttl_s=wanted.ttl,
        timeout_s=wanted.timeout,
        reader_grace_s=_reader_grace_s(wanted, is_async=is_async),
        webhook_url=webhook_url(wanted.webhook_url),
        model=model_named(model),
        place=answer_place(wanted.conversation),
    )


def answer_place(wanted: str | ConversationPlace | None) -> AnswerPlace | None:
    """Return where the answer is kept. Raises `NotFound` if there is no such conversation of the caller."""
    if wanted is None:
        return None
    place = ConversationPlace(id=wanted) if isinstance(wanted, str) else wanted
    try:
        found = services().conversations.find(place.id)
    except NotFound as err:
        raise err.renamed({"conversation_id": "conversation"}) from None
    if found.owner != caller().owner:
        raise NotFound("There is no such conversation of yours.", param="conversation")
    parent = found.leaf_id if place.follows_shown else place.parent_id or ""
    quota = services().conversations.quota
    return AnswerPlace(found.id, parent, quota.messages, quota.bytes)


def model_named(name: str) -> str:
    """Return the name for a job's options: none for the default, which can be resolved later than all other names."""
    return "" if name == DEFAULT_ALIAS else name


def webhook_url(url: str | None) -> str | None:
    """Return the URL after the checks that are possible now; a host name is looked up when the message is sent.

    Raises:
        InvalidRequest: this server sends no webhooks, or none to that address.
    """
    if url is None:
        return None
    settings = services().settings
    if settings.webhook_secret is None:
        raise InvalidRequest(
            "webhook_url cannot be used: this server has no SLM_WEBHOOK_SECRET to sign webhooks with",
            param="webhook_url",
        )
    address = literal(Target.parse(url).host)
    if address is not None and not is_public(address) and not settings.webhook_allow_private:
        raise InvalidRequest(f"webhook_url must lead to a public address; got {address}", param="webhook_url")
    return url


def _reader_grace_s(wanted: RequestOptions, *, is_async: bool) -> float | None:
    """Return how long the job continues after its client has disconnected; None if it needs no reader."""
    if is_async and wanted.on_disconnect == "cancel":
        raise InvalidRequest(
            'on_disconnect must be "continue" if the client does not wait (async, Prefer: respond-async); '
            "got 'cancel'",
            param="on_disconnect",
        )
    is_kept = wanted.conversation is not None and wanted.on_disconnect is None
    goes_on = is_async or is_kept or wanted.on_disconnect == "continue"
    return None if goes_on else services().settings.reader_grace_s
