"""Reports the progress of a run and of an evaluation."""

from __future__ import annotations

from dataclasses import asdict

from training.request import Checkpoint, Progress, Sample
from worker.training.child.reporter import Reporter
from worker.training.task import Kind

MAX_REPORTED = 1000  # steps of a run: each is kept in the job's log
MAX_TEXT = 2000  # characters of a sample


class RunReports:
    """Reports a run (`training.request.RunEvents`)."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def step(self, progress: Progress) -> None:
        """Report a step; in a long run, only some, and all with a held-out loss."""
        every = -(-progress.steps // MAX_REPORTED)
        if progress.held_out_loss is not None or progress.step % every == 0 or progress.step == progress.steps:
            self._reporter.send(Kind.PROGRESS, line=_line(progress), facts=progress.to_json())

    def sample(self, sample: Sample) -> None:
        """Report what the model answers now."""
        facts = {name: text[:MAX_TEXT] if isinstance(text, str) else text for name, text in asdict(sample).items()}
        self._reporter.send(Kind.SAMPLE, facts=facts)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Report a checkpoint."""
        self._reporter.send(Kind.CHECKPOINT, step=checkpoint.step, is_best=checkpoint.is_best)

    def should_stop(self) -> bool:
        """Return whether the trainer asked this process to stop."""
        return self._reporter.should_stop()


class EvaluationReports:
    """Reports an evaluation or a comparison (`training.evaluate.EvaluationEvents`). `verb` begins the lines."""

    def __init__(self, reporter: Reporter, verb: str) -> None:
        self._reporter = reporter
        self._verb = verb

    def evaluated(self, name: str, done: int, total: int) -> None:
        """Report how many examples were evaluated with a model."""
        line = f"{self._verb}: {name}, {done} of {total}"
        self._reporter.send(Kind.PROGRESS, line=line, facts={"model": name, "done": done, "total": total})

    def should_stop(self) -> bool:
        """Return whether the trainer asked this process to stop."""
        return self._reporter.should_stop()


def _line(progress: Progress) -> str:
    parts = [f"Step {progress.step} of {progress.steps}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.held_out_loss is not None:
        parts.append(f"held-out loss {progress.held_out_loss:.3f}")
    if progress.seconds_left:
        parts.append(f"{progress.seconds_left:.0f} s left")
    return ", ".join(parts)
