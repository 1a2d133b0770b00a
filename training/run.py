"""Trains an adapter, as a run that can be stopped or killed at any moment and continued."""

from __future__ import annotations

from training.request import Result, RunEvents, RunRequest


def train(request: RunRequest, events: RunEvents) -> Result:
    """Train until the recipe's end, an early stop, or `events.should_stop()`.

    A run whose folder holds checkpoints of the same request continues from the last one, with the same curve and
    the same final weights as a run that was never interrupted (on a CPU: to the bit). The adapter is that of the step
    with the lowest held-out loss.

    Raises:
        FineTuningError: the base, the data or the request cannot be used; the text says what to do.
    """
    from training.supervision import supervise  # loads torch

    return supervise(request, events)
