"""Tells on the console how a run goes."""

from __future__ import annotations

from training.gate import GateReport
from training.request import Checkpoint, Progress, Sample

LINES = 20  # of steps in the whole run; evaluations always have a line


class Console:
    """Prints the events of a run and of its comparison with other models."""

    def __init__(self) -> None:
        self._part = ""

    def step(self, progress: Progress) -> None:
        """Print an evaluation, and now and then a step."""
        every = max(1, progress.steps // LINES)
        if progress.held_out_loss is None and progress.step % every:
            return
        _say(f"step {progress.step}/{progress.steps}{_losses(progress)}{_time_left(progress)}")

    def sample(self, sample: Sample) -> None:
        """Print what the model answers now."""
        _say(f"  {_short(sample.prompt)!r} -> {_short(sample.response)!r}")

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Print nothing: checkpoints matter only when a run is continued."""

    def evaluated(self, name: str, done: int, total: int) -> None:
        """Print each part of the comparison once."""
        del done, total
        if name != self._part:
            self._part = name
            _say(f"measuring {name}")

    def should_stop(self) -> bool:
        """Never stop: Ctrl-C ends the script."""
        return False

    @staticmethod
    def gate(report: GateReport) -> None:
        """Print the table of the gate."""
        _say(f"{'measure':<20}{'base':>10}{'this':>10}{'bound':>10}  passed")
        for row in report.rows:
            passed = "yes" if row.passed else f"no: must be {row.reason}"
            _say(f"{row.name:<20}{row.base:>10.3f}{row.candidate:>10.3f}{row.bound:>10.3f}  {passed}")


def _losses(progress: Progress) -> str:
    trained = "" if progress.loss is None else f", loss {progress.loss:.3f}"
    return trained + ("" if progress.held_out_loss is None else f", held-out loss {progress.held_out_loss:.3f}")


def _time_left(progress: Progress) -> str:
    return "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


def _say(line: str) -> None:
    print(line, flush=True)
