"""Steers a run between its steps: evaluates, saves, reports and stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.checkpoints import Checkpoints
from training.curve import Choice, Point, points
from training.recipe import Recipe
from training.request import Checkpoint, Progress, RunEvents, Sample

SAVE_S = 60.0  # a crash loses at most about this much work


class Reporter(TrainerCallback):
    """Evaluates every so many steps, keeps checkpoints, and tells `events`.

    Nothing that it does changes what is trained: a run with other pauses gives the same weights.

    Args:
        choice: says which step is the best, and when to end.
        before: the point of the untrained model, if it was evaluated.
        ask: asks the model at a step, and returns what it answers.
    """

    def __init__(
        self,
        recipe: Recipe,
        checkpoints: Checkpoints,
        events: RunEvents,
        choice: Choice,
        before: Sequence[Point],
        ask: Callable[[int], Sequence[Sample]],
    ) -> None:
        self.was_stopped = False
        self._recipe = recipe
        self._checkpoints = checkpoints
        self._events = events
        self._ask = ask
        self._choice = choice
        self._before = before
        self._began = self._saved = time.monotonic()
        self._first: tuple[int, int] = (0, 0)  # steps and tokens when this process began
        self._reported = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remember where this process begins."""
        self._began = self._saved = time.monotonic()
        self._first = (state.global_step, state.num_input_tokens_seen)
        self._reported = state.global_step

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Report the step before."""
        self._report(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Decide what happens before the next step."""
        is_last = state.global_step >= state.max_steps
        is_due = is_last or state.global_step % self._evaluate_every(state) == 0
        self.was_stopped = not is_last and self._events.should_stop()
        control.should_evaluate = is_due and self._choice.examples > 0
        control.should_save = is_due or self.was_stopped or self._should_save(state)
        control.should_training_stop = is_last or self.was_stopped
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """End the run if it no longer improves, and show what the model answers."""
        if state.global_step == 0:
            return control
        for sample in self._ask(state.global_step):
            self._events.sample(sample)
        if self._choice.has_stopped_improving(self._curve(state)):
            control.should_training_stop = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the checkpoint in its place, and delete older ones."""
        self._report(state)
        best = self._choice.best_step(self._curve(state))
        folder = self._checkpoints.accept(state.global_step)
        self._checkpoints.keep_only_last_and(best)
        self._saved = time.monotonic()
        self._events.checkpoint(Checkpoint(state.global_step, folder, is_best=best == state.global_step))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Report the last step."""
        self._report(state)

    def _curve(self, state: TrainerState) -> list[Point]:
        return [*self._before, *points(state.log_history)]

    def _evaluate_every(self, state: TrainerState) -> int:
        return max(1, int(state.max_steps) // self._recipe.evaluations)

    def _should_save(self, state: TrainerState) -> bool:
        every = self._recipe.save_steps
        if every is not None:
            return bool(state.global_step % every == 0)
        return time.monotonic() - self._saved >= SAVE_S

    def _report(self, state: TrainerState) -> None:
        """Report the last step, once: after its evaluation, so that one report has both losses."""
        if state.global_step > self._reported:
            self._reported = state.global_step
            *_, last = points(state.log_history[-2:])  # the step's own row and its evaluation's
            self._events.step(self._progress(last, state))

    def _progress(self, point: Point, state: TrainerState) -> Progress:
        seconds = max(time.monotonic() - self._began, 1e-6)
        steps, tokens = state.global_step - self._first[0], state.num_input_tokens_seen - self._first[1]
        return Progress(
            **{field.name: getattr(point, field.name) for field in fields(point)},
            steps=state.max_steps,
            tokens_per_s=round(tokens / seconds, 1),
            seconds_left=round(seconds / steps * (state.max_steps - state.global_step), 1) if steps else None,
        )
