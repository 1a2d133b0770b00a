"""The routes for workers of other hosts, which do not share the data folder: files of adapters in both directions."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from flask import Blueprint, Response, jsonify, send_file

from api.auth.access import Access, set_access
from api.current import services
from api.http.request_body import json_text
from api.http.upload_body import receive_file
from api.schemas.json_object import json_object
from api.schemas.parsing import SLM, parse
from api.schemas.worker_files import AdapterFilesBody
from common import ids
from common.adapters.store import AdapterFilesError, HashedFile
from common.errors import InvalidRequest, NotFound

worker_files = Blueprint("worker_files", __name__, url_prefix="/slm/worker")
set_access(worker_files, Access.WORKER)


@worker_files.get("/adapters/<adapter_id>")
def list_files(adapter_id: str) -> Response:
    """List the files of an adapter version."""
    files = [{"name": path.name, "bytes": path.stat().st_size} for path in _files(adapter_id)]
    return jsonify(success=True, id=adapter_id, files=files)


@worker_files.get("/adapters/<adapter_id>/<name>")
def read_file(adapter_id: str, name: str) -> Response:
    """Return the content of a file of an adapter version."""
    for path in _files(adapter_id):
        if path.name == name:
            return _content(path)
    raise NotFound(f"Adapter {adapter_id[:12]} has no file {name[:80]!r}.")


@worker_files.put("/adapters/<adapter_id>")
def add_adapter(adapter_id: str) -> Response:
    """Add an adapter version whose files were sent before."""
    body = parse(AdapterFilesBody, json_object(json_text()), SLM)
    uploads, store = services().uploads, services().adapter_store
    if body.id != adapter_id:
        raise InvalidRequest(
            f"files must be those of adapter {adapter_id[:12]}; got those of {body.id[:12]}", param="files"
        )
    if not store.files(adapter_id):
        sent = {name: HashedFile(uploads.path(digest), digest) for name, digest in body.files.items()}
        try:
            store.assemble(sent)
        except AdapterFilesError as err:
            raise InvalidRequest(str(err), param="files") from err
    return jsonify(success=True, id=adapter_id)


@worker_files.post("/uploads/<digest>")
def send_upload(digest: str) -> Response:
    """Take one file of an adapter, by the SHA-256 of its content."""
    if not ids.has_form(digest, ids.SHA256):
        raise NotFound("The path must end with the SHA-256 of the file, in hex.")
    with services().uploads.receive(digest) as upload:
        content = _Hashing(upload.file)
        receive_file(content, services().settings.max_adapter_bytes)
        if (found := content.digest()) != digest:
            raise InvalidRequest(f"the file must have the hash {digest}; got one with {found}", param="file")
    return jsonify(success=True, id=digest)


@worker_files.get("/uploads/<upload_id>")
def read_upload(upload_id: str) -> Response:
    """Return an archive that a client has uploaded and no worker has published yet."""
    if not ids.has_form(upload_id, ids.UUID) or not (path := services().uploads.path(upload_id)).is_file():
        raise NotFound(f"There is no upload {upload_id[:60]!r}.")
    return _content(path)


@worker_files.delete("/uploads/<upload_id>")
def delete_upload(upload_id: str) -> Response:
    """Delete a client's archive, because its job has ended."""
    if not ids.has_form(upload_id, ids.UUID):
        raise NotFound(f"There is no upload {upload_id[:60]!r}.")
    services().uploads.remove(upload_id)
    return jsonify(success=True, id=upload_id)


class _Hashing:
    """Writes to a file and computes the hash of what it has written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._file.write(chunk)

    def digest(self) -> str:
        return self._hash.hexdigest()


def _files(adapter_id: str) -> list[Path]:
    """Return the files of an adapter. Raises `NotFound`."""
    files = services().adapter_store.files(adapter_id) if ids.has_form(adapter_id, ids.SHA256) else []
    if not files:
        raise NotFound(f"The files of adapter {adapter_id[:12]!r} are not here.")
    return files


def _content(path: Path) -> Response:
    try:
        return send_file(path, mimetype="application/octet-stream", etag=False)
    except FileNotFoundError as err:
        raise NotFound("The file was deleted meanwhile.") from err
