"""What a newer version writes can be read, as far as this one knows it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from common.conversations.conversation import Answer, Written
from common.fleet import WorkerReport, WorkerState
from common.jobs.job import GenerateResult
from common.owners.api_keys import ApiKey
from common.owners.files import StoredFile
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


@pytest.mark.parametrize(
    ("read", "written"),
    [
        (ApiKey.from_json, {"name": "a", "role": "user", "digest": "d", "created_ms": 1, "limits": {"new_limit": 1}}),
        (Written.from_json, {"role": "user", "content": "Hi"}),
        (Answer.from_json, {"job_id": "a", "state": "succeeded"}),
    ],
    ids=["key", "message", "answer"],
)
def test_a_record_with_a_field_of_a_newer_version(read: Callable[[str], object], written: dict[str, object]) -> None:
    known = {name: {} if name == "limits" else value for name, value in written.items()}
    assert read(json.dumps(written | {"new_field": 1})) == read(json.dumps(known))


def test_a_stored_file_with_a_field_of_a_newer_version() -> None:
    fields = {"id": "f", "owner": "o", "filename": "a", "purpose": "batch"}
    fields |= {"bytes": "1", "created_at": "1", "expires_at": "2"}
    assert StoredFile.from_hash(fields | {"new_field": "1"}) == StoredFile.from_hash(fields)
