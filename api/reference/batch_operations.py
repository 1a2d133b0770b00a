"""The routes under `/v1/files` and `/v1/batches`, by their endpoints."""

from __future__ import annotations

from api.openai.batches import BatchBody
from api.openai.files import CONTENT_TYPES
from api.openai.listing import DEFAULT_LIMIT, MAX_LIMIT
from api.reference import headers
from api.reference.operation import FORM, Answer, Operation, Parameter, RequestBody, Tag
from api.schemas.openai.batches import BatchList, BatchObject
from api.schemas.openai.files import DeletedFile, FileList, FileObject, UploadForm
from api.schemas.parsing import OPENAI
from common import errors, ids

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
PURPOSE = Parameter("query", "purpose", {"enum": ["batch", "batch_output"]}, "List files of this purpose alone.")
LIMIT = Parameter(
    "query",
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    "The most to list.",
    10,
)


def _after(one: Parameter) -> Parameter:
    return Parameter("query", "after", one.schema, "The `last_id` of the page before.")


BATCH_OPERATIONS = {
    "files.upload": Operation(
        id="uploadFile",
        tag=Tag.BATCHES,
        summary="Upload a file of requests",
        body=RequestBody(UploadForm, {"purpose": "batch", "file": LINE}, media_type=FORM),
        answers=[Answer("The file's record.", FileObject)],
        errors=(errors.RedisFull, errors.QuotaExceeded),
    ),
    "files.list_files": Operation(
        id="listFiles",
        tag=Tag.BATCHES,
        summary="List your files",
        parameters=(_after(FILE_ID), LIMIT, PURPOSE),
        answers=[Answer("A page of them.", FileList)],
        errors=(errors.InvalidRequest,),
    ),
    "files.show_file": Operation(
        id="showFile",
        tag=Tag.BATCHES,
        summary="Show a file's record",
        parameters=(FILE_ID,),
        answers=[Answer("The record.", FileObject)],
        errors=(errors.NotFound,),
    ),
    "files.read_file": Operation(
        id="readFile",
        tag=Tag.BATCHES,
        summary="Read a file",
        parameters=(FILE_ID,),
        answers=[Answer("Its content, to the letter.", media_types=CONTENT_TYPES)],
        errors=(errors.NotFound,),
    ),
    "files.delete_file": Operation(
        id="deleteFile",
        tag=Tag.BATCHES,
        summary="Delete a file",
        description="A batch that was made of it goes on.",
        parameters=(FILE_ID,),
        answers=[Answer("It is gone.", DeletedFile)],
        errors=(errors.NotFound,),
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
        answers=[Answer("The batch.", BatchObject)],
        errors=(errors.NotFound, errors.RedisFull, errors.QuotaExceeded),
    ),
    "batches.list_batches": Operation(
        id="listBatches",
        tag=Tag.BATCHES,
        summary="List your batches",
        parameters=(_after(BATCH_ID), LIMIT),
        answers=[Answer("A page of them.", BatchList)],
        errors=(errors.InvalidRequest,),
    ),
    "batches.show_batch": Operation(
        id="showBatch",
        tag=Tag.BATCHES,
        summary="Show a batch: its state, its counts, its files",
        parameters=(BATCH_ID,),
        answers=[Answer("The batch.", BatchObject)],
        errors=(errors.NotFound,),
    ),
    "batches.cancel_batch": Operation(
        id="cancelBatch",
        tag=Tag.BATCHES,
        summary="Cancel a batch; what it has brought so far is kept",
        parameters=(BATCH_ID,),
        answers=[Answer("The batch as it stands then.", BatchObject)],
        errors=(errors.NotFound, errors.Conflict),
    ),
}
