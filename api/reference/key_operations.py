"""Describes the routes with which operators manage the server, by their endpoints."""

from __future__ import annotations

from api.reference.operation import Operation, Parameter, RequestBody, SuccessResponse, Tag, simple
from api.reference.slm_operations import LIMIT
from api.schemas.audit import AuditEntries
from api.schemas.keys import KEY_NAME, ChangeKeyBody, CreateKeyBody, KeyList, NewKey, RevokedKey, ShownKey
from api.schemas.settings import ShownSettings
from common import errors
from common.owners.audit_log import ID

NAME = Parameter("path", "key_name", {"type": "string", "pattern": f"^{KEY_NAME}$"}, "The key's name.", "ann")
AFTER = Parameter("query", "after", {"type": "string", "pattern": f"^{ID}$"}, "The `last_id` of the previous page.")

KEY_OPERATIONS = {
    "api_keys.list_keys": simple(
        "listKeys", Tag.OPERATE, "List the API keys with their limits and usage", SuccessResponse("The keys.", KeyList)
    ),
    "api_keys.create_key": Operation(
        id="createKey",
        tag=Tag.OPERATE,
        summary="Create an API key, and show its secret once",
        description=(
            "The first key must be an admin's, and is created on the server's machine: from then on, every request "
            "needs a key."
        ),
        body=RequestBody(CreateKeyBody, {"name": "ann", "role": "user", "limits": {"tokens_per_day": 100000}}),
        responses=[SuccessResponse("The key.", NewKey, status=201)],
        errors=(errors.Conflict,),
    ),
    "api_keys.change_key": Operation(
        id="changeKey",
        tag=Tag.OPERATE,
        summary="Change the role or the limits of an API key",
        parameters=(NAME,),
        body=RequestBody(ChangeKeyBody, {"limits": {"concurrent_jobs": 4}}),
        responses=[SuccessResponse("The changed key.", ShownKey)],
        errors=(errors.NotFound, errors.Conflict),
    ),
    "api_keys.revoke_key": simple(
        "revokeKey",
        Tag.OPERATE,
        "Revoke an API key, and cancel the jobs and batches of its owner",
        SuccessResponse("The key is rejected within two seconds.", RevokedKey),
        NAME,
        errors=(errors.NotFound, errors.Conflict),
    ),
    "audit.list_changes": Operation(
        id="listChanges",
        tag=Tag.OPERATE,
        summary="List what operators did: changes of keys, models, adapters, aliases and training runs",
        parameters=(LIMIT, AFTER),
        responses=[SuccessResponse("The latest changes, newest first.", AuditEntries)],
        errors=(errors.InvalidRequest,),
    ),
    "shown_settings.list_settings": simple(
        "listSettings",
        Tag.OPERATE,
        "List the settings in force",
        SuccessResponse("The settings of the API process that answers.", ShownSettings),
    ),
}
