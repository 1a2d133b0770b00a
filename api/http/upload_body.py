"""Streams an uploaded file of any size to a file on the disk, within limits of size and time."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, cast

from flask import request
from werkzeug.formparser import FormDataParser

from api.http.body_deadline import restart_deadline
from api.http.request_body import FORM, FORM_BYTES, refuse_compression
from api.schemas.shown import shown
from common.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

FORM_MEMORY = 524_288  # of the parser, which reads 64 KiB at once
STRIDE = 8_388_608  # bytes that a client may send in the time for a whole ordinary body
CHUNK = 65_536
RAW_TYPES = (
    "application/gzip",
    "application/octet-stream",
    "application/x-gzip",
    "application/x-tar",
    "application/x-zip-compressed",
    "application/zip",
)


def receive_file(file: SupportsWrite[bytes], max_bytes: int) -> None:
    """Write the uploaded file to `file`: the request's body, or the part `file` of a multipart form.

    Raises:
        UnsupportedMediaType: the body is compressed or has another content type.
        BodyTooLarge: the file exceeds `max_bytes`.
        InvalidRequest: there is no file, or the form has other fields.
        RequestTimeout: the client is too slow.
    """
    refuse_compression()
    sink = _Sink(file, max_bytes)
    if request.mimetype == FORM:
        _receive_form(sink, max_bytes)
    elif request.mimetype in ("", *RAW_TYPES):
        _receive_body(sink, max_bytes)
    else:
        types = ", ".join((FORM, *RAW_TYPES))
        raise UnsupportedMediaType(f"The file must be sent as Content-Type: {types}; got {shown(request.mimetype)}")
    if sink.size == 0:
        raise InvalidRequest(
            "file must be an archive: the request's body, or `file` in a form; got nothing", param="file"
        )


class _Sink:
    """Takes the bytes of the file. Each `STRIDE` of them gives the client more time."""

    def __init__(self, file: SupportsWrite[bytes], max_bytes: int) -> None:
        self.size = 0
        self.is_taken = False  # by a part of a form
        self._file = file
        self._max_bytes = max_bytes

    def write(self, chunk: bytes) -> int:
        before, self.size = self.size, self.size + len(chunk)
        if self.size > self._max_bytes:
            raise BodyTooLarge(f"The file must not be larger than {self._max_bytes} bytes")
        if before // STRIDE != self.size // STRIDE:
            restart_deadline(request.environ)
        self._file.write(chunk)
        return len(chunk)

    def seek(self, _offset: int) -> int:
        """Do nothing; werkzeug goes back to the beginning of a part that it has written."""
        return 0


def _receive_body(sink: _Sink, max_bytes: int) -> None:
    request.max_content_length = max_bytes
    while chunk := request.stream.read(CHUNK):
        sink.write(chunk)


def _receive_form(sink: _Sink, max_bytes: int) -> None:
    def open_part(*_: object, **__: object) -> IO[bytes]:
        if sink.is_taken:
            raise InvalidRequest("the form must have one file", param="file")
        sink.is_taken = True
        return cast(IO[bytes], sink)

    request.max_content_length = max_bytes + FORM_BYTES
    parser = FormDataParser(open_part, max_form_memory_size=FORM_MEMORY, max_form_parts=10, silent=False)
    try:
        _, fields, files = parser.parse(
            request.stream, request.mimetype, request.content_length, request.mimetype_params
        )
    except ValueError as err:
        raise InvalidRequest(f"the form cannot be read: {err}", param="file") from err
    for name in fields.keys() | files.keys():
        if name != "file":
            raise InvalidRequest(f"{shown(name)} is not a field; known: file", param=name[:60])
