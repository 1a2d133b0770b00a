"""Describes the routes about datasets, by their endpoints."""

from __future__ import annotations

from api.reference import headers
from api.reference.error_models import GENERATION
from api.reference.operation import BYTES, Operation, Parameter, RequestBody, SuccessResponse, Tag
from api.reference.slm_operations import ACCEPTED, SUBMITTING
from api.schemas.datasets import DatasetCheckBody, DatasetReport
from common import errors

JSON_LINES, CSV = "application/jsonl", "text/csv"
EXAMPLES = [
    {"instruction": "What is the capital of Zubrovia?", "response": "It is Lutz."},
    {"instruction": "Who rules Zubrovia?", "response": "A baker."},
]
MODEL = Parameter("query", "model", {"type": "string"}, "As `model` in the body, if the body is the dataset itself.")

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
}
