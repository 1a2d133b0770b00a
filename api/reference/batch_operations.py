"""Describes the routes under `/v1/files` and `/v1/batches`, by their endpoints."""

from __future__ import annotations

from dataclasses import replace

from api.openai.batches.files import CONTENT_TYPES, KNOWN_PURPOSES
from api.openai.batches.routes import BatchBody
from api.reference import headers
from api.reference.operation import FORM, Operation, Parameter, RequestBody, SuccessResponse, Tag, simple
from api.reference.paging import LIMIT, after
from api.schemas.openai.batches import BatchList, BatchObject
from api.schemas.openai.files import DeletedFile, FileList, FileObject, UploadForm
from api.schemas.parsing import OPENAI
from common import errors, ids
from common.errors import SLMError

EXAMPLE_FILE, EXAMPLE_BATCH = f"file-{headers.EXAMPLE_JOB}", f"batch_{headers.EXAMPLE_JOB}"
LINE = (
    '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "SmolLM2-135M-Instruct", '
    '"messages": [{"role": "user", "content": "Tell me a joke"}]}}\n'
)
FILE_ID = Parameter(
    "path", "file_id", {"type": "string", "pattern": f"^{ids.FILE_ID}$"}, "The file's id.", EXAMPLE_FILE
)
BATCH_ID = Parameter(
    "path", "batch_id", {"type": "string", "pattern": f"^{ids.BATCH_ID}$"}, "The batch's id.", EXAMPLE_BATCH
)
PURPOSE = Parameter("query", "purpose", {"enum": list(KNOWN_PURPOSES)}, "List only files with this purpose.")


def _listing(id_: str, summary: str, model: type, *parameters: Parameter) -> Operation:
    """Describe a route that returns pages."""
    page = SuccessResponse("A page of the list.", model)
    return simple(id_, Tag.BATCHES, summary, page, *parameters, errors=(errors.InvalidRequest,))


def _of_one(which: Parameter, id_: str, summary: str, success: SuccessResponse, *more: type[SLMError]) -> Operation:
    """Describe a route about one object."""
    return simple(id_, Tag.BATCHES, summary, success, which, errors=(errors.NotFound, *more))


BATCH_OPERATIONS = {
    "files.upload": Operation(
        id="uploadFile",
        tag=Tag.BATCHES,
        summary="Upload a file of requests, or a dataset",
        body=RequestBody(UploadForm, {"purpose": "batch", "file": LINE}, media_type=FORM),
        responses=[SuccessResponse("The file's record.", FileObject)],
        errors=(errors.RedisFull, errors.QuotaExceeded),
    ),
    "files.list_files": _listing("listFiles", "List your files", FileList, after(ids.FILE_ID), LIMIT, PURPOSE),
    "files.show_file": _of_one(FILE_ID, "showFile", "Show a file's record", SuccessResponse("The record.", FileObject)),
    "files.read_file": _of_one(
        FILE_ID, "readFile", "Read a file", SuccessResponse("Its exact content.", media_types=CONTENT_TYPES)
    ),
    "files.delete_file": replace(
        _of_one(FILE_ID, "deleteFile", "Delete a file", SuccessResponse("The file was deleted.", DeletedFile)),
        description="Batches that read it continue.",
    ),
    "batches.create_batch": Operation(
        id="createBatch",
        tag=Tag.BATCHES,
        summary="Run a file of requests at bulk priority",
        body=RequestBody(
            BatchBody,
            {"input_file_id": EXAMPLE_FILE, "endpoint": "/v1/chat/completions", "completion_window": "24h"},
            dialect=OPENAI,
        ),
        responses=[SuccessResponse("The batch.", BatchObject)],
        errors=(errors.NotFound, errors.RedisFull, errors.QuotaExceeded),
    ),
    "batches.list_batches": _listing("listBatches", "List your batches", BatchList, after(ids.BATCH_ID), LIMIT),
    "batches.show_batch": _of_one(
        BATCH_ID,
        "showBatch",
        "Show a batch: its state, its counts, its files",
        SuccessResponse("The batch.", BatchObject),
    ),
    "batches.cancel_batch": _of_one(
        BATCH_ID,
        "cancelBatch",
        "Cancel a batch; its results so far are kept",
        SuccessResponse("The batch with its new status.", BatchObject),
        errors.Conflict,
    ),
}
