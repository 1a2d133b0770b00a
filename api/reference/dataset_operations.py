"""Describes the routes about datasets and feedback, by their endpoints."""

from __future__ import annotations

from api.reference import headers
from api.reference.error_models import GENERATION
from api.reference.operation import BYTES, Operation, Parameter, RequestBody, SuccessResponse, Tag, simple
from api.reference.slm_operations import ACCEPTED, JOB_ID, SUBMITTING
from api.schemas.datasets import DatasetCheckBody, DatasetReport
from api.schemas.feedback import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_TAG_CHARS,
    MAX_TAGS,
    DeletedFeedback,
    FeedbackBody,
    FeedbackDataset,
    FeedbackDatasetBody,
    FeedbackList,
    ShownFeedback,
)
from common import errors, ids

JSON_LINES, CSV = "application/jsonl", "text/csv"
EXAMPLES = [
    {"instruction": "What is the capital of Zubrovia?", "response": "It is Lutz."},
    {"instruction": "Who rules Zubrovia?", "response": "A baker."},
]
MODEL = Parameter("query", "model", {"type": "string"}, "As `model` in the body, if the body is the dataset itself.")
TAGS = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": MAX_TAG_CHARS}, "maxItems": MAX_TAGS}
MOMENT = {"type": "string", "format": "date-time"}
FEEDBACK_QUERY = (
    Parameter(
        "query",
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "Maximum number of items to list.",
        10,
    ),
    Parameter(
        "query", "after", {"type": "string", "pattern": f"^{ids.UUID}$"}, "The `last_id` of the previous page, a job."
    ),
    Parameter("query", "rating", {"enum": ["up", "down"]}, "List only feedback with this rating."),
    Parameter("query", "tags", TAGS, "List only feedback with this tag; may be repeated."),
    Parameter("query", "model", {"type": "string"}, "List only feedback on answers of this model (`support@3`, ...)."),
    Parameter("query", "since", MOMENT, "List only feedback that was given or changed from then on."),
    Parameter("query", "until", MOMENT, "List only feedback that was given or last changed up to then."),
    Parameter("query", "owner", {"type": "string"}, "List only feedback on jobs of this owner; of others for admins."),
)

DATASET_OPERATIONS = {
    "datasets.check_dataset": Operation(
        id="checkDataset",
        tag=Tag.DATASETS,
        summary="Report what is wrong with a dataset, and what a training would see of it",
        description=(
            "The body is the dataset itself (JSON Lines, a JSON array or CSV; options are in the query then), or names "
            "an uploaded file, or has the examples as `data`. A bad dataset is reported with 200, too: `usable` is "
            "false then, and `faults` has the line, the column and what would be right for each fault."
        ),
        parameters=(MODEL, *SUBMITTING),
        body=RequestBody(DatasetCheckBody, {"data": EXAMPLES}, raw_types=(JSON_LINES, CSV, BYTES)),
        responses=[SuccessResponse("The report.", DatasetReport, headers=headers.REPEATABLE), ACCEPTED],
        errors=(*GENERATION, errors.NotFound, errors.IdempotencyMismatch),
    ),
    "feedback.give_feedback": Operation(
        id="giveFeedback",
        tag=Tag.DATASETS,
        summary="Say what you think of an answer",
        description=(
            "Replaces what was said before. The feedback is kept with the prompt and the answer for "
            "`SLM_FEEDBACK_TTL_S`, longer than the job."
        ),
        parameters=(JOB_ID,),
        body=RequestBody(FeedbackBody, {"rating": "down", "correction": "It is Lutz.", "tags": ["geography"]}),
        responses=[SuccessResponse("The feedback.", ShownFeedback)],
        errors=(errors.JobNotFound, errors.Conflict, errors.RedisFull, errors.QuotaExceeded),
    ),
    "feedback.show_feedback": simple(
        "showFeedback",
        Tag.DATASETS,
        "Show the feedback on a job, also after the job's record has expired",
        SuccessResponse("The feedback.", ShownFeedback),
        JOB_ID,
        errors=(errors.NotFound,),
    ),
    "feedback.delete_feedback": simple(
        "deleteFeedback",
        Tag.DATASETS,
        "Delete the feedback on a job",
        SuccessResponse("The feedback was deleted.", DeletedFeedback),
        JOB_ID,
        errors=(errors.NotFound,),
    ),
    "feedback.list_feedback": simple(
        "listFeedback",
        Tag.DATASETS,
        "List the feedback on your jobs, the latest change first; for an admin, on everybody's",
        SuccessResponse("A page of feedback.", FeedbackList),
        *FEEDBACK_QUERY,
        errors=(errors.InvalidRequest, errors.Forbidden),
    ),
    "feedback.make_dataset": Operation(
        id="makeDatasetOfFeedback",
        tag=Tag.DATASETS,
        summary="Make a dataset of feedback, and store it as a file",
        description="Of the feedback on your own jobs; for an admin, on everybody's.",
        body=RequestBody(FeedbackDatasetBody, {"kind": "pairs", "tags": ["geography"]}),
        responses=[SuccessResponse("The file.", FeedbackDataset, status=201)],
        errors=(errors.NotFound, errors.RedisFull, errors.QuotaExceeded),
    ),
}
