"""Fine-tuning jobs, their events and checkpoints."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field

from api.schemas.openai.listing import Listed, Listing
from api.schemas.response_model import Count, ResponseModel, UnixTime

Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
Auto = Literal["auto"]


class JobFailure(ResponseModel):
    """Why a job failed, or why its model was not published."""

    code: str
    message: str
    param: str | None


class HyperparametersUsed(ResponseModel):
    """The hyperparameters; "auto" until a trainer has chosen them."""

    n_epochs: int | Auto
    batch_size: int | Auto
    learning_rate_multiplier: float | Auto
    beta: NotRequired[float | Auto]


class MethodDetails(ResponseModel):
    """The parameters of a method."""

    hyperparameters: HyperparametersUsed


class MethodUsed(ResponseModel):
    """The method, with an object of the same name."""

    type: Literal["supervised", "dpo"]
    supervised: NotRequired[MethodDetails]
    dpo: NotRequired[MethodDetails]


class FineTuningJob(Listed):
    """A fine-tuning job. `fine_tuned_model` is the name to use as `model`, once the job has published it."""

    object: Literal["fine_tuning.job"]
    model: str
    created_at: UnixTime
    finished_at: UnixTime | None
    fine_tuned_model: str | None
    organization_id: str
    status: Status
    hyperparameters: HyperparametersUsed
    method: MethodUsed
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: Count | None
    error: JobFailure | None
    seed: int
    estimated_finish: UnixTime | None
    integrations: Annotated[list[Any], Field(max_length=0)]
    metadata: dict[str, str]
    user_provided_suffix: str | None


class FineTuningJobs(Listing):
    """A page of fine-tuning jobs, newest first."""

    data: list[FineTuningJob]


class FineTuningEvent(Listed):
    """An event of a fine-tuning job."""

    object: Literal["fine_tuning.job.event"]
    created_at: UnixTime
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class FineTuningEvents(Listing):
    """A page of events, newest first."""

    data: list[FineTuningEvent]


class CheckpointMetrics(ResponseModel):
    """The metrics at a checkpoint, as far as they were measured there."""

    step: Count
    train_loss: NotRequired[float]
    train_mean_token_accuracy: NotRequired[float]
    valid_loss: NotRequired[float]
    valid_mean_token_accuracy: NotRequired[float]
    full_valid_loss: NotRequired[float]
    full_valid_mean_token_accuracy: NotRequired[float]


class FineTuningCheckpoint(Listed):
    """A checkpoint of a fine-tuning job. It is kept to continue the run; it cannot be used as a model."""

    object: Literal["fine_tuning.job.checkpoint"]
    created_at: UnixTime
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: Count
    metrics: CheckpointMetrics


class FineTuningCheckpoints(Listing):
    """A page of checkpoints, newest first."""

    data: list[FineTuningCheckpoint]
