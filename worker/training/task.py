"""What the trainer gives to its child process, and what the child sends back: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from common.jobs.job import JobKind

STOP = "stop\n"  # from the trainer: end soon, and leave a checkpoint
PUBLISH = "publish\n"  # from the trainer: its answer to `Kind.PUBLISHING`, unless that is `STOP`
DATASET, VALIDATION = "dataset", "validation"  # names of the copied files in a run's folder


class Kind(StrEnum):
    """What a message of the child is about."""

    STATUS = "status"  # line: for people
    PROGRESS = "progress"  # line, facts
    SAMPLE = "sample"  # facts
    CHECKPOINT = "checkpoint"  # step, is_best
    PUBLISHING = "publishing"  # it wants to publish, and waits for `PUBLISH` or `STOP`
    RESULT = "result"  # result: the job has succeeded
    STOPPED = "stopped"  # it stopped when asked to; a later attempt continues
    FAILED = "failed"  # error: `SLMError.to_dict`

    @property
    def is_last(self) -> bool:
        """Whether the child ends after this message."""
        return self in (Kind.RESULT, Kind.STOPPED, Kind.FAILED)


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt of a job. `params` are the job's; `base` is the name of its base, `adapter_id` what it continues."""

    job_id: str
    kind: JobKind
    params: Mapping[str, Any]
    base: str
    adapter_id: str
    folder: Path

    def to_line(self) -> str:
        """Return the JSON form; `from_line` reads it back."""
        return json.dumps(asdict(self) | {"folder": str(self.folder)}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Task:
        """Parse the JSON form."""
        wire = json.loads(line)
        return cls(**wire | {"kind": JobKind(wire["kind"]), "folder": Path(wire["folder"])})
