"""The routes that train adapters and evaluate models."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, Response, jsonify

from api.auth.access import Access, set_access
from api.current import begin_work, caller, note_change, services
from api.http.request_body import json_text
from api.jobs import response_bodies
from api.jobs.request import fingerprint, idempotency_key, wants_no_wait, webhook_url
from api.routes.jobs import run_job, submit_job
from api.schemas.json_object import json_object
from api.schemas.parsing import SLM, parse
from api.schemas.strict import Strict
from api.schemas.training import EvaluateBody, TrainBody
from api.service import NewJob
from api.training.submission import (
    TrainingOrder,
    dataset_file,
    evaluated,
    evaluation_job,
    start_model,
    stored_rows,
    training_job,
)
from common.errors import Conflict
from common.jobs.job import JobKind, JobState
from common.jobs.store import JobOptions
from common.training.spec import EvaluationSpec, TrainingSpec

training = Blueprint("training", __name__, url_prefix="/slm")
set_access(training, Access.TRAINER)


@training.post("/train")
def train() -> Response:
    """Train an adapter, judge it and publish it; the client gets the job's id and follows its stream."""
    body = parse(TrainBody, json_object(json_text()), SLM)
    model = start_model(body.base, body.start_from)
    if body.validation_file_id is not None:
        dataset_file(body.validation_file_id, "validation_file_id")
    note_change(body.name)
    spec = TrainingSpec(
        name=body.name,
        file_id=_file(body, body.name),
        validation_file_id=body.validation_file_id,
        method=body.method,
        recipe=body.recipe,
        prompts=[one.model_dump() for one in body.prompts],
        seed=body.seed,
        publish=body.publish,
        force=body.force,
    )
    return submit_job(_keyed(training_job(TrainingOrder(spec, model, {}, webhook_url(body.webhook_url))), body))


@training.post("/evaluate")
def evaluate() -> Response:
    """Measure models side by side on a dataset; the client gets the job's id."""
    body = parse(EvaluateBody, json_object(json_text()), SLM)
    models = evaluated(body.models)
    spec = EvaluationSpec(file_id=_file(body, "evaluation"), models=models, seed=body.seed)
    return submit_job(_keyed(evaluation_job(spec, webhook_url(body.webhook_url)), body))


@training.post("/jobs/<job_id>/pause")
def pause_job(job_id: str) -> Response:
    """Set a training run aside after its current step."""
    begin_work()
    return _changed(job_id, services().jobs.pause(job_id, caller()))


@training.post("/jobs/<job_id>/resume")
def resume_job(job_id: str) -> Response:
    """Queue a paused training run again."""
    begin_work()
    return _changed(job_id, services().jobs.resume(job_id, caller()))


@training.post("/jobs/<job_id>/publish")
def publish_run(job_id: str) -> Response:
    """Publish the adapter of a training run that was kept unpublished."""
    begin_work()
    record = services().jobs.get(job_id, caller())
    if record.kind is not JobKind.TRAIN or record.state is not JobState.SUCCEEDED or not record.result:
        raise Conflict(f"Job {job_id} is no training run that has succeeded.")
    if record.result["published"]:
        raise Conflict(f"The adapter of job {job_id} is published already.")
    note_change(record.params["name"])
    params = {"name": record.params["name"], "run": job_id, "folder": record.result["folder"]}
    job = NewJob(caller().owner, JobKind.PUBLISH, params, JobOptions(model=record.base))
    return submit_job(job) if wants_no_wait() else run_job(job)


def _file(body: TrainBody | EvaluateBody, name: str) -> str:
    """Return the id of the dataset's file."""
    if body.data is not None:
        return stored_rows(name, body.data).id
    assert body.file_id is not None  # noqa: S101 - the schema wants one of them
    return dataset_file(body.file_id, "file_id").id


def _keyed(job: NewJob, body: Strict) -> NewJob:
    """Return the job with the request's Idempotency-Key, if it has one."""
    if (key := idempotency_key()) is None:
        return job
    return replace(job, options=replace(job.options, idempotency_key=key, fingerprint=fingerprint(body)))


def _changed(job_id: str, state: JobState) -> Response:
    return jsonify(response_bodies.run_state(job_id, state))
