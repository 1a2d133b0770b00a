"""What the routes under `/v1/files` and `/v1/batches` take and answer, field by field."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.reference.openai_models import UnixTime
from api.reference.slm_models import Count, Told
from common.batches import BatchStatus


class UploadForm(BaseModel):
    """A file of requests for a batch: JSONL with `custom_id`, `method`, `url` and `body` in each line."""

    model_config = ConfigDict(extra="forbid")

    purpose: Literal["batch"] = Field(description='"batch"')
    file: str = Field(
        description="text in UTF-8", json_schema_extra={"format": "binary", "contentMediaType": "application/jsonl"}
    )


class FileObject(Told):
    """A file's record."""

    id: str
    object: Literal["file"]
    bytes: Count
    created_at: UnixTime
    expires_at: UnixTime
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]


class Listing(Told):
    """A page of a listing, newest first."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None = Field(description="ask for the next page with it as `after`")
    has_more: bool


class FileList(Listing):
    """A page of files, newest first."""

    data: list[FileObject]


class DeletedFile(Told):
    """The file is gone."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class LineError(Told):
    """What is wrong with a line of a batch's file."""

    code: str
    line: Annotated[int, Field(ge=1)] | None
    message: str
    param: str | None


class LineErrors(Told):
    """What is wrong with a batch's file."""

    object: Literal["list"]
    data: list[LineError]


class RequestCounts(Told):
    """The requests of a batch."""

    total: Count
    completed: Count
    failed: Count


class BatchObject(Told):
    """A batch as it stands."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: LineErrors | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: BatchStatus
    output_file_id: str | None = Field(description="the file of answers")
    error_file_id: str | None = Field(description="the file of errors")
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


class BatchList(Listing):
    """A page of batches, newest first."""

    data: list[BatchObject]
