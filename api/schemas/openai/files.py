"""Files: the input and output of batches, and datasets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.meaning import Meaning
from api.schemas.openai.listing import Listed, Listing
from api.schemas.response_model import Count, ResponseModel, UnixTime

FilePurpose = Literal["batch", "batch_output", "fine-tune", "fine-tune-results"]


class UploadForm(BaseModel):
    """A dataset, or a file of requests for a batch: JSONL with `custom_id`, `method`, `url` and `body` in each line."""

    model_config = ConfigDict(extra="forbid")

    purpose: Annotated[Literal["batch", "fine-tune"], Meaning("The purpose of the file.")] = Field(
        description='"batch" or "fine-tune"'
    )
    file: Annotated[str, Meaning("The file.")] = Field(
        description="text in UTF-8", json_schema_extra={"format": "binary", "contentMediaType": "application/jsonl"}
    )


class FileObject(Listed):
    """A file's record."""

    object: Literal["file"]
    bytes: Count
    created_at: UnixTime
    expires_at: UnixTime
    filename: str
    purpose: FilePurpose
    status: Literal["processed"]


class FileList(Listing):
    """A page of files, newest first."""

    data: list[FileObject]


class DeletedFile(ResponseModel):
    """The file was deleted."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]
