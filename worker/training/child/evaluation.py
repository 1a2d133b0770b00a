"""Evaluates several models, side by side, on one dataset."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from common.settings import Settings
from common.training.spec import EvaluatedModel, EvaluationSpec
from training.errors import Stopped
from training.evaluate import Candidate, evaluate
from worker.training.child import datasets
from worker.training.child.device import device_of, limit_threads
from worker.training.child.reporter import Reporter
from worker.training.child.run_events import EvaluationReports
from worker.training.child.versions import Versions
from worker.training.task import Task


def run_evaluation(task: Task, settings: Settings, versions: Versions, reporter: Reporter) -> dict[str, Any] | None:
    """Return the job's result; None if the trainer asked to stop. Raises as `work`."""
    spec = EvaluationSpec.from_dict(task.params)
    reporter.status("Checking the dataset...")
    dataset = datasets.read(task.folder)
    limit_threads(settings)
    events, device = EvaluationReports(reporter, "Evaluating"), device_of(settings)
    scores: dict[str, dict[str, Any]] = {}
    try:
        for base, models in groupby(sorted(spec.models, key=_base), _base):
            adapters = {one.model: one.adapter_id for one in models}  # two names can stand for one version
            found = evaluate(
                versions.base(base),
                [Candidate(model, versions.adapter(adapter_id)) for model, adapter_id in adapters.items()],
                dataset,
                events,
                seed=spec.seed,
                device=device,
            )
            scores |= {one["name"]: one for one in found.to_json()["models"]}
    except Stopped:
        return None
    return {
        "message": f"{len(spec.models)} models evaluated on {len(dataset)} examples",
        "seed": spec.seed,
        "examples": len(dataset),
        "models": [{**scores[one.model], "name": one.name, "model": one.model} for one in spec.models],
    }


def _base(one: EvaluatedModel) -> str:
    return one.base
