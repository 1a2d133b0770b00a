"""What the log of a training run or an evaluation says about its progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.jobs.event_log import EventLog
from common.jobs.events import Event, EventType

RECENT = 20  # events from the end of a log; among so many there is a progress event


def recent_events(log: EventLog, job_id: str) -> list[Event]:
    """Return the latest events of a job."""
    return log.read(job_id, max(0, log.length(job_id) - RECENT), RECENT)


def latest_progress(events: Sequence[Event]) -> dict[str, Any] | None:
    """Return the data of the latest progress event; None if there is none."""
    return next((event.data for event in reversed(events) if event.type is EventType.PROGRESS), None)


def seconds_left(progress: dict[str, Any] | None) -> float | None:
    """Return an estimate; None if it is unknown."""
    return None if progress is None else progress.get("seconds_left")
