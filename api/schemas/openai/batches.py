"""Batches: files of requests that run as jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.openai.listing import Listed, Listing
from api.schemas.response_model import Count, ResponseModel, UnixTime
from common.owners.batches import BatchStatus


class LineError(ResponseModel):
    """An error in one line of a batch's file."""

    code: str
    line: Annotated[int, Field(ge=1)] | None
    message: str
    param: str | None


class LineErrors(ResponseModel):
    """The errors in a batch's file."""

    object: Literal["list"]
    data: list[LineError]


class RequestCounts(ResponseModel):
    """The numbers of requests of a batch."""

    total: Count
    completed: Count
    failed: Count


class BatchObject(Listed):
    """A batch and its progress."""

    object: Literal["batch"]
    endpoint: str
    errors: LineErrors | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: BatchStatus
    output_file_id: Annotated[str | None, Field(description="the file of the responses")]
    error_file_id: Annotated[str | None, Field(description="the file of the errors")]
    created_at: UnixTime
    expires_at: UnixTime
    in_progress_at: UnixTime | None
    finalizing_at: UnixTime | None
    completed_at: UnixTime | None
    failed_at: UnixTime | None
    expired_at: UnixTime | None
    cancelling_at: UnixTime | None
    cancelled_at: UnixTime | None
    request_counts: RequestCounts
    metadata: dict[str, str]
    models: Annotated[
        dict[str, str],
        Field(description="the model that each name in the file stood for when the batch was created"),
    ]


class BatchList(Listing):
    """A page of batches, newest first."""

    data: list[BatchObject]
