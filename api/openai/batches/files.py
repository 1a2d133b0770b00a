"""The routes for files: the input and output of batches, and datasets."""

from __future__ import annotations

from typing import cast

from flask import Blueprint, Response, jsonify, request

from api.auth.access import Access, set_access
from api.current import begin_work, caller, services
from api.http.request_body import FORM_BYTES, require_form
from api.openai.answering import own
from api.openai.batches.dataset_shape import check_shape
from api.openai.fine_tuning import results
from api.openai.listing import listing, page_arguments
from api.schemas.openai.files import DeletedFile, FileList, FileObject, FilePurpose
from api.schemas.shown import shown
from common import ids
from common.errors import BodyTooLarge, InvalidRequest, JobNotFound, NotFound
from common.owners.files import StoredFile

PURPOSES: dict[str, str] = {"batch": "batch.jsonl", "fine-tune": "dataset.jsonl"}  # and names of files without one
KNOWN_PURPOSES = (*PURPOSES, "batch_output", results.PURPOSE)
CONTENT_TYPES = ("application/jsonl", "application/octet-stream")  # some generated clients accept only the second

files = Blueprint("files", __name__, url_prefix="/v1/files")
set_access(files, Access.USER)


@files.post("")
def upload() -> Response:
    """Store a file of requests, or a dataset."""
    require_form()
    limit = services().settings.max_file_bytes
    request.max_content_length = limit + FORM_BYTES
    purpose, filename, content = _form_file()
    if len(content) > limit:
        raise BodyTooLarge(f"The file must not be larger than {limit} bytes")
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as err:
        raise InvalidRequest("file must be text in UTF-8", param="file") from err
    if purpose == "fine-tune":
        check_shape(lines)
    owner, limits = caller().owner, services().keyring.limits_of(caller().owner)
    services().files.check_room(owner, len(content), limits)
    kept = services().files.put(owner, filename, purpose, lines, limits=limits)
    return jsonify(_object(kept))


@files.get("")
def list_files() -> Response:
    """List the caller's files, newest first."""
    after, limit = page_arguments(ids.FILE_ID, "purpose")
    if request.args.get("purpose", "batch") not in KNOWN_PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(KNOWN_PURPOSES)}", param="purpose")
    page = services().files.newest(caller().owner, purpose=request.args.get("purpose"), after=after, limit=limit)
    return jsonify(listing(FileList, [_object(one) for one in page.items], has_more=page.has_more))


@files.get("/<file_id>")
def show_file(file_id: str) -> Response:
    """Show a file's record."""
    if (job_id := results.job_of(file_id)) is not None:
        return jsonify(_object(_result_file(job_id)[0]))
    return jsonify(_object(find_file(file_id)))


@files.get("/<file_id>/content")
def read_file(file_id: str) -> Response:
    """Return a file's exact content."""
    owner, limiter = caller().owner, services().read_limiter
    if (job_id := results.job_of(file_id)) is not None:
        return Response(_result_file(job_id)[1], mimetype="text/csv")
    content = services().files.content(find_file(file_id).id, lambda: limiter.acquire(owner))
    return Response(content, mimetype=request.accept_mimetypes.best_match(CONTENT_TYPES, CONTENT_TYPES[0]))


@files.delete("/<file_id>")
def delete_file(file_id: str) -> Response:
    """Delete a file."""
    if results.job_of(file_id) is not None:
        raise InvalidRequest("The results of a fine-tuning job cannot be deleted: they expire with it", param="file_id")
    services().files.delete(find_file(file_id))
    return jsonify(DeletedFile(id=file_id, object="file", deleted=True))


def _form_file() -> tuple[str, str, bytes]:
    """Return the upload's purpose, name and content. Raises `InvalidRequest`."""
    for name in (request.form.keys() | request.files.keys()) - {"file", "purpose"}:
        raise InvalidRequest(f"{shown(name)} is not supported; known: file, purpose", param=name[:60])
    if (purpose := request.form.get("purpose", "")) not in PURPOSES:
        raise InvalidRequest(f"purpose must be {' or '.join(PURPOSES)}; got {shown(purpose)}", param="purpose")
    if (file := request.files.get("file")) is None:
        raise InvalidRequest("file must be a file in a multipart form; got nothing", param="file")
    begin_work(request.content_length or 0)
    return purpose, (file.filename or PURPOSES[purpose])[:255], file.read()


def find_file(file_id: str) -> StoredFile:
    """Return the caller's file with that id. Raises `NotFound`, also for other owners' files."""
    return own(services().files.find(file_id), "file")


def _result_file(job_id: str) -> tuple[StoredFile, str]:
    """Return the record and the content of the result file of the caller's job. Raises `NotFound` if it has none."""
    try:
        record = services().jobs.get(job_id, caller())
    except JobNotFound as err:
        raise NotFound(f"There is no file of the job {job_id!r}.", param="file_id") from err
    if not results.result_file_ids(record):
        raise NotFound(f"The job {job_id!r} has no results.", param="file_id")
    content = results.result_content(services().jobs.logged_events(job_id))
    return results.result_record(record, content, services().settings.train_ttl_s), content


def _object(one: StoredFile) -> FileObject:
    return FileObject(
        id=one.id,
        object="file",
        bytes=one.bytes,
        created_at=one.created_at,
        expires_at=one.expires_at,
        filename=one.filename,
        purpose=cast(FilePurpose, one.purpose),
        status="processed",
    )
