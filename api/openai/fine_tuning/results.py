"""The result file of a fine-tuning job: the metrics of its steps. It is made from the job's log when it is read."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence

from common import ids
from common.jobs.events import Event, EventType
from common.jobs.job import JobKind, JobRecord, JobState
from common.owners.files import StoredFile

_PREFIX, _SUFFIX = "file-", "-results"
FILENAME, PURPOSE = "step_metrics.csv", "fine-tune-results"
_COLUMNS = {  # as OpenAI names them -> as the events do
    "step": "step",
    "train_loss": "loss",
    "train_accuracy": "accuracy",
    "valid_loss": "held_out_loss",
    "valid_mean_token_accuracy": "held_out_accuracy",
}


def result_file_ids(record: JobRecord) -> list[str]:
    """Return the ids of a job's result files: one once it has succeeded."""
    has_results = record.kind is JobKind.TRAIN and record.state is JobState.SUCCEEDED
    return [f"{_PREFIX}{record.id}{_SUFFIX}"] if has_results else []


def job_of(file_id: str) -> str | None:
    """Return the id of the job whose result file has this id; None if it is another file's."""
    is_result = ids.has_form(file_id, ids.FILE_ID) and file_id.endswith(_SUFFIX)
    return file_id.removeprefix(_PREFIX).removesuffix(_SUFFIX) if is_result else None


def result_content(log: Sequence[Event]) -> str:
    """Return the file's content: a CSV text in base64, as OpenAI's."""
    return base64.b64encode(_metrics_csv(log).encode()).decode()


def result_record(record: JobRecord, content: str, ttl_s: int) -> StoredFile:
    """Return the file's record; it is kept as long as the job, `ttl_s` seconds after its end."""
    (file_id,) = result_file_ids(record)
    ended = (record.finished_ms or record.created_ms) // 1000
    return StoredFile(file_id, record.owner, FILENAME, PURPOSE, len(content), ended, ended + ttl_s)


def _metrics_csv(log: Sequence[Event]) -> str:
    """Return a row for each step that was reported; the latest report counts for a step that was repeated."""
    steps = {
        event.data["step"]: event.data for event in log if event.type is EventType.PROGRESS and "step" in event.data
    }
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(_COLUMNS)
    rows.writerows([steps[step].get(name) for name in _COLUMNS.values()] for step in sorted(steps))
    return written.getvalue()
