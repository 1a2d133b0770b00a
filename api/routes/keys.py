"""The routes for API keys. The first key and the last admin's key are special: somebody must be able to manage keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import cast

from flask import Blueprint, Response, jsonify, request

from api.auth.access import Access, set_access
from api.auth.caller import ANONYMOUS
from api.current import caller, note_change, services
from api.http.request_body import json_text
from api.jobs import response_bodies
from api.schemas.json_object import json_object
from api.schemas.keys import ChangeKeyBody, CreateKeyBody, Key, KeyLimits, KeyUsage
from api.schemas.parsing import SLM_WITH_NULLS, parse
from api.times import iso
from common.errors import Conflict, Forbidden, NotFound
from common.owners.api_keys import DEFAULT_LIMITS, ApiKey, ApiKeyError, Role, UnknownApiKey
from common.owners.audit_log import described

api_keys = Blueprint("api_keys", __name__, url_prefix="/slm/keys")
set_access(api_keys, Access.ADMIN)


@api_keys.get("")
def list_keys() -> Response:
    """List all keys with their limits and usage."""
    return jsonify(success=True, keys=[_shown(key) for key in services().api_keys.all()])


@api_keys.post("")
def create_key() -> Response:
    """Create a key; its secret is only in this response."""
    body = parse(CreateKeyBody, json_object(json_text()), SLM_WITH_NULLS)
    _check_place()
    note_change(body.name, described({"role": body.role} | body.limits.given()))
    with _changing():
        limits = replace(DEFAULT_LIMITS, **body.limits.given())
        secret = services().api_keys.create(body.name, Role(body.role), limits, keeps_admin=True)
    try:
        created = services().api_keys.find(body.name)
    except UnknownApiKey as err:
        raise Conflict("The key was created, but revoked at once by somebody else.") from err
    response = jsonify({"success": True, "key": secret, **_shown(created)})
    response.status_code = 201
    response.headers["Cache-Control"] = "no-store"
    return response


@api_keys.patch("/<key_name>")
def change_key(key_name: str) -> Response:
    """Change the role or the limits of a key."""
    changes = parse(ChangeKeyBody, json_object(json_text()), SLM_WITH_NULLS).changes()
    note_change(key_name, described(changes))
    with _changing():
        changed = services().api_keys.change(key_name, changes, keeps_admin=True)
    return jsonify({"success": True, **_shown(changed)})


@api_keys.delete("/<key_name>")
def revoke_key(key_name: str) -> Response:
    """Revoke a key, and cancel the work of its owner."""
    with _changing():
        revoked = services().jobs.revoke(key_name, services().api_keys, services().batches)
    return jsonify(success=True, name=key_name, cancelled_jobs=revoked.jobs, cancelled_batches=revoked.batches)


def _check_place() -> None:
    """Refuse the first key from another machine or site: whoever had it would own the server. Raises `Forbidden`."""
    sent = request.headers
    is_remote = services().settings.insecure or "X-Forwarded-For" in sent
    is_any_page = sent.get("Origin") == "null"  # also a sandboxed frame of any site, if SLM_CORS_ORIGINS has it
    if caller() is ANONYMOUS and (is_remote or is_any_page):
        raise Forbidden(
            "Create the first key on the server's machine: python -m slm keys create --name NAME --role admin"
        )


@contextmanager
def _changing() -> Iterator[None]:
    """Within the block, keys are changed.

    Raises:
        NotFound: no key has that name.
        Conflict: the name is in use, or no admin would be left.
    """
    try:
        yield
    except UnknownApiKey as err:
        raise NotFound(_sentence(err), param="key_name") from err
    except ApiKeyError as err:
        raise Conflict(_sentence(err)) from err
    services().keyring.forget()


def _sentence(err: ApiKeyError) -> str:
    text = str(err)
    return f"{text[0].upper()}{text[1:]}."


def _shown(key: ApiKey) -> Key:
    limits = cast(KeyLimits, asdict(key.limits))
    return Key(name=key.name, role=key.role, created_at=iso(key.created_ms), limits=limits, usage=_usage(key.name))


def _usage(owner: str) -> KeyUsage:
    jobs = services().jobs
    return response_bodies.key_usage(jobs.usage(owner), jobs.limited_usage(owner))
