"""Trains an adapter, judges it and publishes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.adapters.names import version_name
from common.errors import Conflict
from common.settings import Settings
from common.training.spec import TrainingSpec
from training.card import write_card
from training.checkpoints import write_whole
from training.data import Dataset, split
from training.errors import Stopped
from training.gate import FixedPrompt, GateReport, Row, compare
from training.recipe import Recipe
from training.request import Result, RunRequest
from training.run import train
from worker.training.child import datasets
from worker.training.child.device import device_of, threads_of
from worker.training.child.reporter import Reporter
from worker.training.child.run_events import EvaluationReports, RunReports
from worker.training.child.versions import Versions
from worker.training.task import Task

SHOWN_POINTS = 200  # of the curves, in the job's result


class TrainingRun:
    """One attempt of a training run."""

    def __init__(self, task: Task, settings: Settings, versions: Versions, reporter: Reporter) -> None:
        self._task = task
        self._settings = settings
        self._versions = versions
        self._reporter = reporter
        self._spec = TrainingSpec.from_dict(task.params)

    def run(self) -> dict[str, Any] | None:
        """Return the job's result; None if the trainer asked to stop. Raises as `work`."""
        self._reporter.status("Checking the dataset...")
        request, prompts = self._request(), [FixedPrompt(**one) for one in self._spec.prompts]
        self._reporter.status(_plan(request))
        result = train(request, RunReports(self._reporter))
        if result.adapter is None:
            return None
        self._reporter.status("Comparing the new version with the base...")
        try:
            gate = self._read_gate() or self._judge(request, result.adapter, prompts)
            write_card(request, result, gate, datasets.sha256(self._task.folder))
            return _result(request, result, gate) | self._published(result.adapter, gate)
        except Stopped:
            return None

    def _request(self) -> RunRequest:
        spec, folder = self._spec, self._task.folder
        training, held_out = self._parts()
        return RunRequest(
            base=self._versions.base(self._task.base),
            base_name=self._task.base,
            dataset=training,
            validation=held_out,
            recipe=Recipe.for_dataset(training, spec.recipe),
            folder=folder / "run",
            seed=spec.seed,
            method=spec.method or ("dpo" if training.is_preference else "supervised"),
            device=device_of(self._settings),
            start_from=self._versions.adapter(self._task.adapter_id),
            threads=threads_of(self._settings),
        )

    def _parts(self) -> tuple[Dataset, Dataset]:
        dataset, held_out = datasets.read(self._task.folder), datasets.read_validation(self._task.folder)
        return split(dataset, self._spec.seed) if held_out is None else (dataset, held_out)

    def _judge(self, request: RunRequest, adapter: Path, prompts: Sequence[FixedPrompt]) -> GateReport:
        assert request.validation is not None  # noqa: S101 - `_parts` always holds something out
        return compare(
            request.base,
            adapter,
            self._versions.newest(self._spec.name, request.base_name),
            request.dataset,
            request.validation,
            prompts,
            EvaluationReports(self._reporter, "Comparing"),
            device=request.device,
            max_length=request.recipe.max_length,
        )

    def _read_gate(self) -> GateReport | None:
        """Return how an earlier attempt judged the adapter before it began to publish it, if one did.

        So this attempt publishes the same content, which has one number however often it is registered.
        """
        file = self._gate_file
        return GateReport.from_json(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    @property
    def _gate_file(self) -> Path:
        return self._task.folder / "gate.json"

    def _published(self, adapter: Path, gate: GateReport) -> dict[str, Any]:
        """Publish the adapter if it may be; return that part of the result. Raises `Stopped`."""
        name = self._spec.name
        if not self._spec.publish:
            return {"published": False, "message": f"{name} was trained and kept, but not published"}
        if not gate.passed and not self._spec.force:
            reasons = "; ".join(_failed(row) for row in gate.rows if not row.passed)
            return {"published": False, "message": f"{name} was not published: {reasons}"}
        if not self._reporter.ask_to_publish():
            raise Stopped
        write_whole(self._gate_file, gate.to_json())
        try:
            registered, facts = self._versions.publish(name, adapter, self._task.base)
        except Conflict as err:  # an alias or a base model got the name meanwhile
            return {"published": False, "message": f"{name} was trained, but not published: {err.message}"}
        return {
            "published": True,
            "version": registered.number,
            "adapter_id": registered.id,
            "message": f"{version_name(name, registered.number)} is now the newest version",
            "facts": None if facts is None else facts.to_dict(),
        }


def _failed(row: Row) -> str:
    return f"{row.name} is {row.candidate:.3g}, but must be {row.reason}"


def _plan(request: RunRequest) -> str:
    held_out = len(request.validation.examples) if request.validation else 0
    return f"Training on {len(request.dataset.examples)} examples, {held_out} held out..."


def _result(request: RunRequest, result: Result, gate: GateReport) -> dict[str, Any]:
    return {
        "base": request.base_name,
        "method": request.method,
        "seed": request.seed,
        "recipe": request.recipe.model_dump(mode="json"),
        "examples": len(request.dataset.examples),
        "held_out": len(request.validation.examples) if request.validation else 0,
        "steps": result.steps,
        "best_step": result.best_step,
        "trained_tokens": result.tokens,
        "curves": _thinned([point.to_json() for point in result.curve]),
        "gate": gate.to_json(),
        "folder": None if result.adapter is None else result.adapter.name,
        "version": None,
        "adapter_id": None,
        "facts": None,
    }


def _thinned(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return about `SHOWN_POINTS` of the points, always those with a held-out loss and the last."""
    every = -(-len(points) // SHOWN_POINTS)
    last = len(points) - 1
    return [one for i, one in enumerate(points) if i % every == 0 or i == last or "held_out_loss" in one]
