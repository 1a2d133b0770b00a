"""Files of requests and of what they brought."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.response_model import Count, ResponseModel, UnixTime


class UploadForm(BaseModel):
    """A file of requests for a batch: JSONL with `custom_id`, `method`, `url` and `body` in each line."""

    model_config = ConfigDict(extra="forbid")

    purpose: Annotated[Literal["batch"], Field(description='"batch"')]
    file: str = Field(
        description="text in UTF-8", json_schema_extra={"format": "binary", "contentMediaType": "application/jsonl"}
    )


class FileObject(ResponseModel):
    """A file's record."""

    id: str
    object: Literal["file"]
    bytes: Count
    created_at: UnixTime
    expires_at: UnixTime
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]


class Listing(ResponseModel):
    """A page of a listing, newest first."""

    object: Literal["list"]
    first_id: str | None
    last_id: Annotated[str | None, Field(description="ask for the next page with it as `after`")]
    has_more: bool


class FileList(Listing):
    """A page of files, newest first."""

    data: list[FileObject]


class DeletedFile(ResponseModel):
    """The file is gone."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]
