"""The route that checks a dataset before anything is trained on it."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

from flask import Blueprint, Response, request

from api.auth.access import Access, set_access
from api.current import caller, services
from api.http.request_body import body_of_types
from api.jobs.request import check_connected, idempotency_key, wants_no_wait
from api.routes.jobs import run_job, submit_job
from api.schemas.datasets import DatasetCheckBody, DatasetOptions
from api.schemas.parsing import SLM, parse
from api.service import NewJob
from common.errors import NotFound
from common.jobs.job import JobKind
from common.jobs.store import JobOptions

DATASET_TYPES = (
    "application/json",
    "application/jsonl",
    "application/x-jsonlines",
    "application/x-ndjson",
    "text/csv",
    "application/octet-stream",
)

datasets = Blueprint("datasets", __name__, url_prefix="/slm/datasets")
set_access(datasets, Access.USER)


@datasets.post("/check")
def check_dataset() -> Response:
    """Report what is wrong with a dataset. The dataset is the body, or an uploaded file, or a list in the body."""
    raw = body_of_types(DATASET_TYPES, hint="upload a larger dataset to /v1/files and send its file_id")
    body, dataset = _read(raw)
    is_async = body.run_async or wants_no_wait()
    grace_s = None if is_async else services().settings.reader_grace_s
    options = JobOptions(reader_grace_s=grace_s, model=body.model or _default_base())
    if key := idempotency_key():
        sent = sha256(f"{request.full_path}\n".encode() + raw).hexdigest()
        options = replace(options, idempotency_key=key, fingerprint=sent)
    job = NewJob(caller().owner, JobKind.CHECK_DATASET, body.to_params() | dataset, options)
    check_connected(job)
    return submit_job(job) if is_async else run_job(job)


def _read(raw: bytes) -> tuple[DatasetOptions, dict[str, Any]]:
    """Return the options, and the job's parameters that lead to the dataset."""
    if (fields := _request_in(raw)) is None:
        return _checked(parse(DatasetOptions, _query(), SLM)), {"content": raw.decode("utf-8", "surrogateescape")}
    body = parse(DatasetCheckBody, _query() | fields, SLM)
    if body.data is not None:
        return _checked(body), {"content": "\n".join(map(json.dumps, body.data))}
    _check_file(body.file_id, "file_id")
    return _checked(body), {"file_id": body.file_id}


def _request_in(raw: bytes) -> dict[str, Any] | None:
    """Return the body if it is about a dataset; None if it is one, which may be empty."""
    if not raw.strip() and ("file_id" in request.args or not request.content_type):
        return {"file_id": request.args.get("file_id")}
    if not request.is_json:
        return None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.keys() & {"file_id", "data"} else None


def _query() -> dict[str, Any]:
    """Return the options in the query; numbers as such."""
    return {name: _value(text) for name, text in request.args.items()}


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float) else text


def _checked(body: DatasetOptions) -> DatasetOptions:
    _check_file(body.validation_file_id, "validation_file_id")
    return body


def _check_file(file_id: str | None, param: str) -> None:
    """Raises `NotFound` if the caller has no file with that id."""
    if file_id is not None and not caller().may_see(services().files.find(file_id).owner):
        raise NotFound(f"There is no file {file_id[:60]!r}.", param=param)


def _default_base() -> str:
    """Return the base model of requests without a name; empty if no worker has reported one."""
    found = services().registry.resolve("")
    return found.base if found is not None else ""
