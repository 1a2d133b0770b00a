"""Builds the objects of fine-tuning jobs, their events and checkpoints. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from api.openai.fine_tuning.results import result_file_ids
from api.schemas.openai.fine_tuning import (
    CheckpointMetrics,
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    HyperparametersUsed,
    JobFailure,
    MethodDetails,
    MethodUsed,
    Status,
)
from api.training.progress import latest_progress, seconds_left
from common.jobs.events import Event, EventType
from common.jobs.job import JobRecord, JobState

JOB_PREFIX = "ftjob-"
UNPUBLISHED = "not_published"  # code of the error of a run whose adapter did not pass the gate
AUTO = "auto"
DEFAULT_FACTOR = 1.0
_METRICS = {
    "loss": "train_loss",
    "accuracy": "train_mean_token_accuracy",
    "held_out_loss": "valid_loss",
    "held_out_accuracy": "valid_mean_token_accuracy",
}


def job_object(record: JobRecord, recent: Sequence[Event]) -> FineTuningJob:
    """Return a job. `recent` are the latest events of one that runs."""
    notes = record.params["notes"]["fine_tuning"]
    result = record.result or {}
    used = _hyperparameters(notes.get("hyperparameters", {}), result.get("recipe"))
    return FineTuningJob(
        id=f"{JOB_PREFIX}{record.id}",
        object="fine_tuning.job",
        model=record.model or record.base,
        created_at=record.created_ms // 1000,
        finished_at=None if record.finished_ms is None else record.finished_ms // 1000,
        fine_tuned_model=notes["name"] if result.get("published") else None,
        organization_id=record.owner,
        status=_status(record, recent),
        hyperparameters=used,
        method=_method(result.get("method") or notes["method"] or "supervised", used),
        training_file=notes["file_id"],
        validation_file=notes["validation_file_id"],
        result_files=result_file_ids(record),
        trained_tokens=result.get("trained_tokens"),
        error=_failure(record),
        seed=notes["seed"],
        estimated_finish=_estimated_finish(record, recent),
        integrations=[],
        metadata=notes.get("metadata", {}),
        user_provided_suffix=notes.get("suffix"),
    )


def _is_withheld(record: JobRecord) -> bool:
    """Return whether the run succeeded, but its adapter did not pass the gate: for clients, it has failed."""
    return record.result is not None and not record.result["published"] and record.params.get("publish", True)


def _status(record: JobRecord, recent: Sequence[Event]) -> Status:
    if record.state is JobState.SUCCEEDED and _is_withheld(record):
        return "failed"
    if record.state is JobState.RUNNING and latest_progress(recent) is None:
        return "validating_files"
    return record.state.value


def _failure(record: JobRecord) -> JobFailure | None:
    if record.error is not None:
        return JobFailure(code=record.error.code, message=record.error.message, param=_param(record.error.param))
    if record.state is JobState.SUCCEEDED and record.result and _is_withheld(record):
        how = f"Publish it all the same with POST /slm/jobs/{record.id}/publish."
        return JobFailure(code=UNPUBLISHED, message=f"{record.result['message']}. {how}", param=None)
    return None


def _param(param: str | None) -> str | None:
    names = {"file_id": "training_file", "validation_file_id": "validation_file", "epochs": "n_epochs"}
    return None if param is None else names.get(param, param)


def _estimated_finish(record: JobRecord, recent: Sequence[Event]) -> int | None:
    progress = latest_progress(recent)
    left = seconds_left(progress)
    if record.state is not JobState.RUNNING or progress is None or left is None:
        return None
    return round(float(progress["at"]) + left)


def _hyperparameters(given: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> HyperparametersUsed:
    """Return the given values; "auto" where none was given, or what the run has used in its place."""
    used = HyperparametersUsed(
        n_epochs=given.get("n_epochs", AUTO),
        batch_size=given.get("batch_size", AUTO),
        learning_rate_multiplier=given.get("learning_rate_multiplier", AUTO),
    )
    if "beta" in given:
        used["beta"] = given["beta"]
    if recipe is None:
        return used
    if "beta" in used:
        used["beta"] = recipe["beta"]
    factor = used["learning_rate_multiplier"]
    used["n_epochs"], used["batch_size"] = max(1, round(recipe["epochs"])), recipe["batch_size"]
    used["learning_rate_multiplier"] = DEFAULT_FACTOR if factor == AUTO else factor
    return used


def _method(kind: str, used: HyperparametersUsed) -> MethodUsed:
    details = MethodDetails(hyperparameters=used)
    if kind == "dpo":
        return MethodUsed(type="dpo", dpo=details)
    return MethodUsed(type="supervised", supervised=details)


def event_objects(record: JobRecord, log: Sequence[Event]) -> list[FineTuningEvent]:
    """Return the events of a job, newest first. An event without a time of its own has that of the one before it."""
    now = record.created_ms / 1000
    found = []
    for event in log:
        now = event.data.get("at", now)
        if event.type.is_terminal and record.finished_ms is not None:
            now = record.finished_ms / 1000
        found.append(_event(record, event, int(now)))
    return found[::-1]


def _event(record: JobRecord, event: Event, created_at: int) -> FineTuningEvent:
    is_metrics = event.type is EventType.PROGRESS and "step" in event.data
    return FineTuningEvent(
        id=f"ftevent-{record.id}-{event.seq}",
        object="fine_tuning.job.event",
        created_at=created_at,
        level="error" if event.type is EventType.ERROR else "info",
        message=_message(record, event),
        type="metrics" if is_metrics else "message",
        data=_metrics_data(event.data) if is_metrics else _message_data(event),
    )


def _message(record: JobRecord, event: Event) -> str:
    match event.type:
        case EventType.QUEUED:
            return "The job is queued"
        case EventType.CHECKPOINT:
            return f"Checkpoint created at step {event.data['step']}"
        case EventType.SAMPLE:
            kind = "training" if event.data.get("trained") else "held-out"  # an earlier version's samples are held out
            return f"Answer to a {kind} prompt at step {event.data['step']}"
        case EventType.ERROR:
            return str(event.data["message"])
        case EventType.FINISHED if event.data["state"] == JobState.CANCELLED:
            return "The job has been cancelled"
        case EventType.FINISHED:
            return "The job has ended without publishing" if _is_withheld(record) else "The job has succeeded"
        case _:
            return str(event.data["status"])


def _metrics_data(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of a step, under OpenAI's names."""
    metrics = {name: progress[ours] for ours, name in _METRICS.items() if ours in progress}
    more = ("learning_rate", "epoch", "tokens", "tokens_per_s", "seconds_left")
    rest = {name: progress[name] for name in more if name in progress}
    return {"step": progress["step"], "total_steps": progress["steps"], **metrics, **rest}


def _message_data(event: Event) -> dict[str, Any]:
    if event.type is EventType.SAMPLE:
        facts = ("step", "prompt", "expected", "response", "trained")
        return {name: event.data[name] for name in facts if name in event.data}
    if event.type is EventType.ERROR:
        return {"error_code": event.data["code"]}
    return {}


def checkpoint_objects(record: JobRecord, log: Sequence[Event]) -> list[FineTuningCheckpoint]:
    """Return the checkpoints of a job, newest first; a step that was reached again counts once."""
    by_step = {one["step_number"]: one for one in _checkpoints(record, log)}
    return sorted(by_step.values(), key=lambda one: one["step_number"], reverse=True)


def _checkpoints(record: JobRecord, log: Sequence[Event]) -> Iterator[FineTuningCheckpoint]:
    name = record.params["notes"]["fine_tuning"]["name"]
    progress: dict[int, dict[str, Any]] = {}
    for event in log:
        if event.type is EventType.PROGRESS and "step" in event.data:
            progress[event.data["step"]] = event.data
        if event.type is EventType.CHECKPOINT:
            step = event.data["step"]
            yield FineTuningCheckpoint(
                id=f"ftckpt-{record.id}-{step}",
                object="fine_tuning.job.checkpoint",
                created_at=int(event.data["at"]),
                fine_tuning_job_id=f"{JOB_PREFIX}{record.id}",
                fine_tuned_model_checkpoint=f"{name}:ckpt-step-{step}",
                step_number=step,
                metrics=_checkpoint_metrics(step, progress.get(step, {})),
            )


def _checkpoint_metrics(step: int, progress: Mapping[str, Any]) -> CheckpointMetrics:
    found = {name: progress[ours] for ours, name in _METRICS.items() if ours in progress}
    # Each evaluation is of all held-out examples.
    full = {f"full_{name}": value for name, value in found.items() if name.startswith("valid_")}
    return cast(CheckpointMetrics, {"step": step, **found, **full})
