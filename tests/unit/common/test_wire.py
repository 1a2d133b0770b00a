"""What a newer version writes can be read, as far as this one knows it."""

from __future__ import annotations

import json

import pytest

from common.fleet import WorkerReport, WorkerState
from common.jobs.job import GenerateResult
from common.training.trainers import TrainerReport

RESULT = {"response": "a", "full_response": "a", "finish_reason": "stop", "device": "cpu"}
COUNTS = {"prompt_tokens": 1, "completion_tokens": 1, "first_token_ms": None}


@pytest.mark.parametrize(
    ("report", "written"),
    [
        (WorkerReport("w", "h", 1, WorkerState.READY), WorkerReport("w", "h", 1, WorkerState.READY).to_json()),
        (TrainerReport("t", "h", 1, "cpu"), TrainerReport("t", "h", 1, "cpu").to_json()),
    ],
    ids=["worker", "trainer"],
)
def test_a_report_with_a_field_of_a_newer_version(report: WorkerReport | TrainerReport, written: str) -> None:
    assert type(report).from_json(json.dumps(json.loads(written) | {"new_field": 1})) == report


def test_a_result_with_a_field_of_a_newer_version() -> None:
    assert GenerateResult.from_dict(RESULT | COUNTS | {"new_field": 1}) == GenerateResult.from_dict(RESULT | COUNTS)
