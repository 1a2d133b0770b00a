"""A job's state as reported by the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from slm_client.answer import Answer
from slm_client.errors import ApiError, BadAnswer, Cancelled, error_from_frame


class JobStatus(StrEnum):
    """The status of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"  # only training runs
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A snapshot of a job.

    `position` and `estimated_wait_s` are None unless it is queued. `text` is the answer so far; empty in a listing and
    directly after `submit`. `answer` is set if the job has succeeded, or to the partial answer if it was cancelled.
    """

    id: str
    status: JobStatus
    position: int | None = None
    estimated_wait_s: float | None = None
    text: str = ""
    answer: Answer | None = None
    error: ApiError | None = None

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self.status not in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Job:
        """Read the JSON of `GET /slm/jobs/<id>`, of an entry of the listing, or of a 202 response."""
        result, error = body.get("result"), body.get("error")
        return cls(
            id=body["job_id"],
            status=JobStatus(body["status"]),
            position=body.get("position"),
            estimated_wait_s=body.get("estimated_wait_s"),
            text=body.get("text", ""),
            answer=Answer.from_body(result) if result and "response" in result else None,
            error=None if error is None else error_from_frame(error),
        )

    @classmethod
    def from_response(cls, body: Mapping[str, Any]) -> Job:
        """Read the JSON of a response that is generated in the background."""
        return cls(body["id"].removeprefix("resp_"), JobStatus.QUEUED)

    @classmethod
    def from_listing(cls, body: Mapping[str, Any]) -> list[Job]:
        """Read the JSON of `GET /slm/jobs`."""
        return [cls.from_body(entry) for entry in body["jobs"]]

    def raise_for_failure(self) -> None:
        """Raise the job's error, if it has one.

        Raises:
            ApiError: it failed.
            Cancelled: it was cancelled.
        """
        if self.error is not None:
            raise self.error
        if self.status is JobStatus.CANCELLED:
            raise Cancelled(f"Job {self.id} was cancelled.", code="cancelled")

    def outcome(self) -> Answer:
        """Return the answer of a generation that has ended. Raises like `raise_for_failure`."""
        self.raise_for_failure()
        if self.answer is None:
            raise BadAnswer(f"Job {self.id} is {self.status} and has no answer.")
        return self.answer
