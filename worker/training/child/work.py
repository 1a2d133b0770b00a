"""Runs the task of this process."""

from __future__ import annotations

from typing import Any

from common.jobs.job import JobKind
from common.settings import Settings
from worker.training.child.evaluation import run_evaluation
from worker.training.child.reporter import Reporter
from worker.training.child.training_run import TrainingRun
from worker.training.child.versions import Versions
from worker.training.task import Task


def work(task: Task, settings: Settings, reporter: Reporter) -> dict[str, Any] | None:
    """Return the job's result; None if the trainer asked to stop.

    Raises:
        SLMError, FineTuningError, RedisError, OSError: the job fails.
    """
    versions = Versions(settings, reporter)
    if task.kind is JobKind.EVALUATE:
        return run_evaluation(task, settings, versions, reporter)
    return TrainingRun(task, settings, versions, reporter).run()
