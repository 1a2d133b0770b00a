"""The routes for batches: files of requests that run as bulk jobs."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from flask import Blueprint, Response, jsonify
from pydantic import Field

from api.auth.access import Access, set_access
from api.current import begin_work, caller, services
from api.http.request_body import json_text
from api.openai.answering import own
from api.openai.batches.files import find_file
from api.openai.listing import listing, page_arguments
from api.schemas.json_object import json_object
from api.schemas.meaning import Meaning
from api.schemas.metadata import Metadata
from api.schemas.openai.batches import BatchList, BatchObject, LineError, LineErrors, RequestCounts
from api.schemas.parsing import OPENAI, parse
from api.schemas.strict import Strict
from common import ids
from common.errors import InvalidRequest, NotFound
from common.owners.batches import Batch

batches = Blueprint("batches", __name__, url_prefix="/v1/batches")
set_access(batches, Access.USER)


class BatchBody(Strict):
    """Body of `POST /v1/batches`."""

    input_file_id: Annotated[str, Meaning("The file of requests.")] = Field(
        description="the id of a file that was uploaded for a batch"
    )
    endpoint: Annotated[
        Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"],
        Meaning("The route that every line of the file names."),
    ] = Field(description='"/v1/chat/completions", "/v1/completions" or "/v1/embeddings"')
    completion_window: Annotated[
        Literal["24h"], Meaning("Time limit of the batch; requests that are not done by then expire.")
    ] = Field(description='"24h"')
    metadata: Metadata = Field(
        default_factory=dict, description="an object of at most 16 strings of 512 characters, with names of 64"
    )


@batches.post("")
def create_batch() -> Response:
    """Create a batch."""
    body = parse(BatchBody, json_object(json_text()), OPENAI)
    _check_file(body.input_file_id)
    batch = services().batches.enter(
        caller().owner,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        metadata=dict(body.metadata),
        limits=services().keyring.limits_of(caller().owner),
    )
    return jsonify(_object(batch))


@batches.get("")
def list_batches() -> Response:
    """List the caller's batches, newest first."""
    after, limit = page_arguments(ids.BATCH_ID)
    page = services().batches.newest(caller().owner, after=after, limit=limit)
    return jsonify(listing(BatchList, [_object(one) for one in page.items], has_more=page.has_more))


@batches.get("/<batch_id>")
def show_batch(batch_id: str) -> Response:
    """Show a batch."""
    return jsonify(_object(_find(batch_id)))


@batches.post("/<batch_id>/cancel")
def cancel_batch(batch_id: str) -> Response:
    """Request the cancellation of a batch; its results so far are kept."""
    begin_work()
    services().batches.cancel(_find(batch_id).id)
    return jsonify(_object(_find(batch_id)))


def _check_file(file_id: str) -> None:
    """Check the input file. Raises `NotFound`, `InvalidRequest`."""
    try:
        found = find_file(file_id)
    except NotFound as err:
        raise err.renamed({"file_id": "input_file_id"}) from err
    if found.purpose != "batch":
        raise InvalidRequest("input_file_id must be the id of a file with the purpose batch", param="input_file_id")


def _find(batch_id: str) -> Batch:
    """Return the caller's batch. Raises `NotFound`, also for other owners' batches."""
    return own(services().batches.find(batch_id), "batch")


def _object(batch: Batch) -> BatchObject:
    return BatchObject(
        id=batch.id,
        object="batch",
        endpoint=batch.endpoint,
        errors=LineErrors(object="list", data=cast(list[LineError], batch.errors)) if batch.errors else None,
        input_file_id=batch.input_file_id,
        completion_window="24h",
        status=batch.status,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        in_progress_at=batch.times.get("in_progress"),
        finalizing_at=batch.times.get("finalizing"),
        completed_at=batch.times.get("completed"),
        failed_at=batch.times.get("failed"),
        expired_at=batch.times.get("expired"),
        cancelling_at=batch.times.get("cancelling"),
        cancelled_at=batch.times.get("cancelled"),
        request_counts=RequestCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
        metadata=batch.metadata,
        models=dict(batch.models) if batch.total else {},
    )
