"""Describes the routes about models, adapters and aliases, by their endpoints."""

from __future__ import annotations

from api.reference import headers
from api.reference.error_models import MODEL_CHANGE
from api.reference.operation import BYTES, FORM, Operation, Parameter, RequestBody, SuccessResponse, Tag, simple
from api.reference.slm_operations import ACCEPTED
from api.schemas.adapters import (
    AdapterList,
    AliasBody,
    AliasList,
    DeletedAdapter,
    DeletedAlias,
    DeletedModel,
    ModelNames,
    Published,
    ShownAdapter,
    ShownAlias,
    UploadedAdapter,
)
from common import errors
from common.adapters.names import FORM as NAME_FORM

_NAME = {"type": "string", "pattern": f"^{NAME_FORM}$"}
ADAPTER = Parameter(
    "path",
    "name",
    {"type": "string", "pattern": f"^{NAME_FORM}(@[1-9][0-9]*)?$"},
    "An adapter such as `support`, or one of its versions such as `support@3`.",
    "support",
)
NEW_NAME = Parameter("query", "name", _NAME, "The adapter's name (required).", "support")
BASE = Parameter(
    "query",
    "base",
    {"type": "string"},
    "The base model, if the server has several and the adapter fits more than one.",
    "gpt2",
)
BASE_MODEL = Parameter("path", "name", {"type": "string"}, "The base model.", "gpt2")
ALIAS = Parameter("path", "alias", _NAME, "The alias.", "prod")


ADAPTER_OPERATIONS = {
    "adapters.list_models": simple(
        "listNames", Tag.ADAPTERS, "List everything that a request can name", SuccessResponse("The names.", ModelNames)
    ),
    "adapters.delete_model": simple(
        "deleteModel",
        Tag.ADAPTERS,
        "Forget a base model, unless a worker serves it, or an alias, adapter, open job or open batch needs it",
        SuccessResponse("The base model is no longer known.", DeletedModel),
        BASE_MODEL,
        errors=(errors.NotFound, errors.Conflict),
    ),
    "adapters.list_adapters": simple(
        "listAdapters", Tag.ADAPTERS, "List all adapters with their versions", SuccessResponse("The list.", AdapterList)
    ),
    "adapters.upload_adapter": Operation(
        id="uploadAdapter",
        tag=Tag.ADAPTERS,
        summary="Publish an adapter as the newest version of its name",
        description=(
            "The body is a tar, tar.gz or zip archive of a PEFT folder, or a form with such a file. A worker checks it "
            "against the base model. Responds with 202 if that takes longer than `SLM_SYNC_TIMEOUT_S`."
        ),
        parameters=(NEW_NAME, BASE, headers.PREFER),
        # Archives' own types are accepted, too, but generators of clients do not know them.
        body=RequestBody(UploadedAdapter, {"file": "(an archive)"}, media_type=FORM, raw_types=(BYTES,)),
        responses=[
            SuccessResponse("The new version.", Published, status=201, headers=headers.JOB),
            SuccessResponse("It already was the newest version of that name.", Published, headers=headers.JOB),
            ACCEPTED,
        ],
        errors=(*MODEL_CHANGE, errors.QueueFull, errors.ModelNotFound),
    ),
    "adapters.show_adapter": simple(
        "showAdapter",
        Tag.ADAPTERS,
        "Show an adapter, or one of its versions",
        SuccessResponse("The adapter or the version.", ShownAdapter),
        ADAPTER,
        errors=(errors.AdapterNotFound,),
    ),
    "adapters.delete_adapter": simple(
        "deleteAdapter",
        Tag.ADAPTERS,
        "Delete an adapter, or one of its versions, unless an alias, an open job or an open batch needs it",
        SuccessResponse("These versions were deleted. Their numbers are not used again.", DeletedAdapter),
        ADAPTER,
        errors=(errors.AdapterNotFound, errors.Conflict),
    ),
    "adapters.list_aliases": simple(
        "listAliases", Tag.ADAPTERS, "List all aliases", SuccessResponse("The aliases.", AliasList)
    ),
    "adapters.set_alias": Operation(
        id="setAlias",
        tag=Tag.ADAPTERS,
        summary="Point an alias to what a name stands for now",
        description="Creates the alias if it does not exist. `default` is the alias of requests without a name.",
        parameters=(ALIAS,),
        body=RequestBody(AliasBody, {"model": "support@3"}),
        responses=[SuccessResponse("The alias.", ShownAlias)],
        errors=(errors.ModelNotFound, errors.Conflict),
    ),
    "adapters.roll_back_alias": simple(
        "rollBackAlias",
        Tag.ADAPTERS,
        "Point an alias to its previous target again",
        SuccessResponse("The alias.", ShownAlias),
        ALIAS,
        errors=(errors.NotFound, errors.Conflict),
    ),
    "adapters.delete_alias": simple(
        "deleteAlias",
        Tag.ADAPTERS,
        "Delete an alias",
        SuccessResponse("The alias was deleted.", DeletedAlias),
        ALIAS,
        errors=(errors.NotFound,),
    ),
}
