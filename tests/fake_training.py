"""A trainer's child process without a model: it counts steps, and remembers them in a file as its checkpoint.

The job's `recipe` says what happens: `steps`, `step_s`, `die_at` and `hang_at` (a step), `fail` (an error's text),
`publishes` (true), `hold` (phases; the first attempt that comes to one stays there until it is asked to stop, or
the file `RELEASED` is there).
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import InvalidRequest
from common.redis.client import connect
from common.settings import Settings
from worker.training.child.ownership import owned
from worker.training.child.reporter import Reporter
from worker.training.task import DATASET, Kind, Task

PROGRAM = ("-m", "tests.fake_training")
RELEASED = "released"  # a file in the run's folder, which ends the hold
PHASES = ("validate", "load", "train", "gate", "publish")


def main() -> None:
    task = Task.from_line(sys.stdin.readline())
    with os.fdopen(int(sys.argv[1]), "w") as target, owned(task.folder):
        Run(task, Reporter(sys.stdin, target)).run()
    os._exit(0)


class Run:
    def __init__(self, task: Task, reporter: Reporter) -> None:
        self._recipe = task.params.get("recipe", {})
        self._reporter = reporter
        self._task = task
        self._run = task.folder / "run"
        self._saved = self._run / "step"

    def run(self) -> None:
        if "fail" in self._recipe:
            error = InvalidRequest(self._recipe["fail"], param="file_id").to_dict()
            self._reporter.send(Kind.FAILED, error=error)
            return
        self._run.mkdir(exist_ok=True)
        self._enter("validate")
        self._enter("load")
        begin = int(self._saved.read_text()) if self._saved.is_file() else 0
        self._reporter.status(f"Training from step {begin}")
        steps = int(self._recipe.get("steps", 3))
        for step in range(begin + 1, steps + 1):
            self._step(step, steps)
            if step == 1:
                self._enter("train")
            if self._reporter.should_stop() and step < steps:
                self._reporter.send(Kind.STOPPED)
                return
        self._enter("gate")
        publishes = self._recipe.get("publishes", False)
        if self._reporter.should_stop() or (publishes and not self._reporter.ask_to_publish()):
            self._reporter.send(Kind.STOPPED)
            return
        self._reporter.send(Kind.RESULT, result=self._result(steps) | (self._published() if publishes else {}))

    def _enter(self, phase: str) -> None:
        self._reporter.status(f"Phase {phase}")
        held = self._run / f"held-{phase}"
        if phase in self._recipe.get("hold", ()) and not held.exists():
            held.touch()
            while not (self._reporter.should_stop() or (self._run / RELEASED).exists()):
                time.sleep(0.01)

    def _published(self) -> dict[str, Any]:
        name = self._task.params["name"]
        registry = AdapterRegistry(connect(Settings.from_env().required_redis_url()))
        registered = registry.register(name, VersionFacts(hashlib.sha256(name.encode()).hexdigest(), self._task.base))
        self._enter("publish")
        return {"published": True, "version": registered.number}

    def _step(self, step: int, steps: int) -> None:
        time.sleep(self._recipe.get("step_s", 0.0))
        if step == self._recipe.get("die_at") and not (self._run / "died").exists():
            (self._run / "died").touch()
            os._exit(9)
        if step == self._recipe.get("hang_at"):
            time.sleep(600)
        facts = {"step": step, "steps": steps, "loss": 1 / step, "tokens": 10 * step, "tokens_per_s": 10.0}
        self._reporter.send(Kind.PROGRESS, line=f"Step {step} of {steps}", facts=facts)
        partial = self._saved.with_suffix(".partial")
        partial.write_text(str(step))
        partial.rename(self._saved)
        self._reporter.send(Kind.CHECKPOINT, step=step, is_best=True)

    def _result(self, steps: int) -> dict[str, Any]:
        adapter = self._run / "adapter"
        adapter.mkdir(exist_ok=True)
        (adapter / "dataset").write_bytes(Path(self._task.folder / DATASET).read_bytes())
        return {"message": "trained", "published": False, "folder": adapter.name, "steps": steps, "trained_tokens": 9}


if __name__ == "__main__":
    main()
