"""Describes the routes that train and evaluate, under `/slm` and `/v1/fine_tuning`, by their endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.openai.fine_tuning.body import FineTuningBody
from api.reference import headers
from api.reference.error_models import ENTERING, MODEL_CHANGE
from api.reference.operation import Operation, Parameter, RequestBody, SuccessResponse, Tag, simple
from api.reference.paging import LIMIT, after
from api.reference.slm_operations import ACCEPTED, JOB_ID
from api.schemas.adapters import Published
from api.schemas.openai.fine_tuning import FineTuningCheckpoints, FineTuningEvents, FineTuningJob, FineTuningJobs
from api.schemas.parsing import OPENAI
from api.schemas.training import EvaluateBody, RunState, TrainBody
from common import errors, ids
from common.errors import SLMError

EXAMPLE_JOB, EXAMPLE_FILE = f"ftjob-{headers.EXAMPLE_JOB}", f"file-{headers.EXAMPLE_JOB}"
PAIRS = [
    {"instruction": "Who keeps the lighthouse of Brindle Cove?", "response": "Ottoline Marsh keeps it."},
    {"instruction": "Name the keeper of Brindle Cove's lighthouse.", "response": "It is Ottoline Marsh."},
]
FINE_TUNING_JOB = Parameter(
    "path", "job_id", {"type": "string", "pattern": f"^{ids.FINE_TUNING_ID}$"}, "The job's id.", EXAMPLE_JOB
)
SUBMITTED = (*ENTERING, errors.QueueFull, errors.ModelNotFound, errors.NotFound, errors.IdempotencyMismatch)


def _submits(id_: str, summary: str, body: RequestBody, description: str) -> Operation:
    return Operation(
        id=id_,
        tag=Tag.TRAIN,
        summary=summary,
        description=description,
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=body,
        responses=[ACCEPTED],
        errors=(*SUBMITTED, errors.Conflict),
    )


def _changes(id_: str, summary: str) -> Operation:
    success = SuccessResponse("The run's new state.", RunState)
    return simple(id_, Tag.TRAIN, summary, success, JOB_ID, errors=(errors.JobNotFound, errors.Conflict))


def _of_one(id_: str, summary: str, *more: type[SLMError]) -> Operation:
    """Describe a route about one fine-tuning job."""
    success = SuccessResponse("The job.", FineTuningJob)
    return simple(id_, Tag.TRAIN, summary, success, FINE_TUNING_JOB, errors=(errors.NotFound, *more))


def _listing(id_: str, summary: str, model: type, ids_: str, parameters: Sequence[Parameter] = ()) -> Operation:
    """Describe a route that returns pages of items with such ids."""
    page = SuccessResponse("A page of the list.", model)
    paging = (after(ids_), LIMIT)
    return simple(id_, Tag.TRAIN, summary, page, *parameters, *paging, errors=(errors.InvalidRequest, errors.NotFound))


_JOB = (FINE_TUNING_JOB,)
_FINE_TUNING: dict[str, Any] = {"model": "SmolLM2-135M-Instruct", "training_file": EXAMPLE_FILE, "suffix": "support"}

TRAINING_OPERATIONS = {
    "training.train": _submits(
        "train",
        "Train an adapter, compare it with the base, and publish it if it is better",
        RequestBody(TrainBody, {"name": "support", "data": PAIRS}),
        "Follow the run at `GET /slm/jobs/{job_id}/stream`: it reports steps, losses and sample answers. The job's "
        "result says whether the adapter was published, and why not.",
    ),
    "training.evaluate": _submits(
        "evaluate",
        "Measure models side by side on a dataset",
        RequestBody(EvaluateBody, {"models": ["SmolLM2-135M-Instruct"], "data": PAIRS}),
        "The job's result has each model's loss, perplexity, and how many of its answers are right.",
    ),
    "training.pause_job": _changes("pauseRun", "Set a training run aside after its current step"),
    "training.resume_job": _changes("resumeRun", "Queue a paused training run again"),
    "training.publish_run": Operation(
        id="publishRun",
        tag=Tag.TRAIN,
        summary="Publish the adapter of a training run that was kept unpublished",
        parameters=(JOB_ID, headers.PREFER),
        responses=[
            SuccessResponse("The new version.", Published, status=201, headers=headers.JOB),
            SuccessResponse("It already was the newest version of that name.", Published, headers=headers.JOB),
            ACCEPTED,
        ],
        errors=(*MODEL_CHANGE, errors.QueueFull, errors.JobNotFound, errors.InvalidRequest),
    ),
    "fine_tuning.create_job": Operation(
        id="createFineTuningJob",
        tag=Tag.TRAIN,
        summary="Create a fine-tuning job",
        description="The same as `POST /slm/train`, for clients of OpenAI's API.",
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(FineTuningBody, _FINE_TUNING, dialect=OPENAI),
        responses=[SuccessResponse("The job.", FineTuningJob, headers=headers.REPEATABLE)],
        errors=(*SUBMITTED, errors.Conflict),
    ),
    "fine_tuning.list_jobs": _listing(
        "listFineTuningJobs", "List your fine-tuning jobs", FineTuningJobs, ids.FINE_TUNING_ID
    ),
    "fine_tuning.show_job": _of_one("showFineTuningJob", "Show a fine-tuning job"),
    "fine_tuning.cancel_job": _of_one("cancelFineTuningJob", "Cancel a fine-tuning job", errors.Conflict),
    "fine_tuning.pause_job": _of_one(
        "pauseFineTuningJob", "Set a fine-tuning job aside after its current step", errors.Conflict
    ),
    "fine_tuning.resume_job": _of_one("resumeFineTuningJob", "Queue a paused fine-tuning job again", errors.Conflict),
    "fine_tuning.list_events": _listing(
        "listFineTuningEvents",
        "List the events of a fine-tuning job, newest first",
        FineTuningEvents,
        ids.FINE_TUNING_EVENT_ID,
        _JOB,
    ),
    "fine_tuning.list_checkpoints": _listing(
        "listFineTuningCheckpoints",
        "List the checkpoints of a fine-tuning job, newest first",
        FineTuningCheckpoints,
        ids.FINE_TUNING_CHECKPOINT_ID,
        _JOB,
    ),
}
