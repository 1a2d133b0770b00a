"""The routes for fine-tuning jobs, in OpenAI's form."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import TypeVar

from flask import Blueprint, Response, jsonify, request

from api.auth.access import Access, set_access
from api.current import begin_work, caller, note_job, services
from api.http.request_body import json_text
from api.jobs.request import keyed
from api.openai.fine_tuning.body import FineTuningBody, unnamed_model
from api.openai.fine_tuning.objects import JOB_PREFIX, checkpoint_objects, event_objects, job_object
from api.openai.listing import L, listing, page_arguments
from api.schemas.json_object import json_object
from api.schemas.openai.fine_tuning import FineTuningCheckpoints, FineTuningEvents, FineTuningJob, FineTuningJobs
from api.schemas.openai.listing import Listed
from api.schemas.parsing import OPENAI, parse
from api.schemas.shown import shown
from api.service import NewJob
from api.training.submission import TrainingOrder, dataset_file, training_job
from common import ids
from common.errors import InvalidRequest, JobNotFound, NotFound, SLMError
from common.jobs.job import JobKind, JobRecord, JobState

fine_tuning = Blueprint("fine_tuning", __name__, url_prefix="/v1/fine_tuning/jobs")
set_access(fine_tuning, Access.TRAINER)

_NO_METADATA = "metadata"
_METADATA = re.compile(r"metadata\[([^\]]{1,64})\]")
T = TypeVar("T", bound=Listed)


@fine_tuning.post("")
def create_job() -> Response:
    """Create a fine-tuning job."""
    body = parse(FineTuningBody, json_object(json_text()), OPENAI)
    dataset_file(body.training_file, "training_file")
    if body.validation_file is not None:
        dataset_file(body.validation_file, "validation_file")
    spec = body.to_spec(unnamed_model(body.model, secrets.token_hex(4)))
    try:
        new = training_job(TrainingOrder(spec, body.model, body.shown()))
    except SLMError as err:
        raise err.renamed({"name": "suffix"}) from err
    accepted = services().jobs.submit(NewJob(new.owner, new.kind, new.params, keyed(new.options, body)))
    note_job(accepted.job_id, accepted.model, is_repeat=accepted.is_repeat)
    return jsonify(_object(services().jobs.get(accepted.job_id, caller())))


@fine_tuning.get("")
def list_jobs() -> Response:
    """List the caller's fine-tuning jobs, newest first."""
    filters = {name: found[1] for name in request.args if (found := _METADATA.fullmatch(name))}
    after, limit = page_arguments(ids.FINE_TUNING_ID, _NO_METADATA, *filters)
    has_none = _wants_no_metadata(request.args.get(_NO_METADATA))
    wanted = {key: request.args[name] for name, key in filters.items()}

    def is_wanted(record: JobRecord) -> bool:
        metadata = record.params["notes"]["fine_tuning"].get("metadata", {})
        return not (has_none and metadata) and all(metadata.get(key) == value for key, value in wanted.items())

    start = None if after is None else after.removeprefix(JOB_PREFIX)
    page = services().jobs.training_runs(caller().owner, after=start, limit=limit, is_wanted=is_wanted)
    return jsonify(listing(FineTuningJobs, [_object(one) for one in page.items], has_more=page.has_more))


@fine_tuning.get("/<job_id>")
def show_job(job_id: str) -> Response:
    """Show a fine-tuning job."""
    return jsonify(_object(_find(job_id)))


@fine_tuning.post("/<job_id>/cancel")
def cancel_job(job_id: str) -> Response:
    """Cancel a fine-tuning job."""
    begin_work()
    services().jobs.cancel(_find(job_id).id, caller())
    return jsonify(_object(_find(job_id)))


@fine_tuning.post("/<job_id>/pause")
def pause_job(job_id: str) -> Response:
    """Set a fine-tuning job aside after its current step."""
    begin_work()
    services().jobs.pause(_find(job_id).id, caller())
    return jsonify(_object(_find(job_id)))


@fine_tuning.post("/<job_id>/resume")
def resume_job(job_id: str) -> Response:
    """Queue a paused fine-tuning job again."""
    begin_work()
    services().jobs.resume(_find(job_id).id, caller())
    return jsonify(_object(_find(job_id)))


@fine_tuning.get("/<job_id>/events")
def list_events(job_id: str) -> Response:
    """List the events of a fine-tuning job, newest first."""
    after, limit = page_arguments(ids.FINE_TUNING_EVENT_ID)
    record = _find(job_id)
    return _page(FineTuningEvents, event_objects(record, services().jobs.logged_events(record.id)), after, limit)


@fine_tuning.get("/<job_id>/checkpoints")
def list_checkpoints(job_id: str) -> Response:
    """List the checkpoints of a fine-tuning job, newest first."""
    after, limit = page_arguments(ids.FINE_TUNING_CHECKPOINT_ID)
    record = _find(job_id)
    found = checkpoint_objects(record, services().jobs.logged_events(record.id))
    return _page(FineTuningCheckpoints, found, after, limit)


def _wants_no_metadata(text: str | None) -> bool:
    """Return whether the listing is of jobs without metadata only. Raises `InvalidRequest`."""
    if text not in (None, "null"):
        raise InvalidRequest(f"metadata must be null; got {shown(text)}. Or ask for metadata[key]", param="metadata")
    return text is not None


def _find(job_id: str) -> JobRecord:
    """Return the caller's job. Raises `NotFound`, also for other owners' jobs."""
    unknown = NotFound(f"There is no fine-tuning job {job_id[:60]!r}.", param="fine_tuning_job_id")
    if not ids.has_form(job_id, ids.FINE_TUNING_ID):
        raise unknown
    try:
        record = services().jobs.get(job_id.removeprefix(JOB_PREFIX), caller())
    except JobNotFound as err:
        raise unknown from err
    if record.kind is not JobKind.TRAIN:
        raise unknown
    return record


def _object(record: JobRecord) -> FineTuningJob:
    is_running = record.state is JobState.RUNNING
    return job_object(record, services().jobs.recent_events(record.id) if is_running else [])


def _page(kind: type[L], found: Sequence[T], after: str | None, limit: int) -> Response:
    """Return the part of a listing that follows `after`."""
    ids_ = [one["id"] for one in found]
    begin = ids_.index(after) + 1 if after in ids_ else 0
    items = found[begin : begin + limit]
    return jsonify(listing(kind, items, has_more=begin + limit < len(found)))
