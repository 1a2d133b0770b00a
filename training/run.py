"""Trains an adapter, as a run that can be stopped or killed at any moment and continued."""

from __future__ import annotations

from training.errors import RecipeError
from training.request import Result, RunEvents, RunRequest

NEEDED = {"dpo": "preference pairs (prompt, chosen, rejected)", "supervised": "prompts with a response"}


def train(request: RunRequest, events: RunEvents) -> Result:
    """Train until the recipe's end, an early stop, or `events.should_stop()`.

    A run whose folder holds checkpoints of the same request continues from the last one, with the same curve and
    the same final weights as a run that was never interrupted (on a CPU: to the bit). The adapter is that of the step
    with the lowest held-out loss.

    Raises:
        FineTuningError: the base, the data or the request cannot be used; the text says what to do.
    """
    _check_method(request)
    from training.supervision import supervise  # loads torch

    return supervise(request, events)


def _check_method(request: RunRequest) -> None:
    """Raise `RecipeError` if the method is not for such examples."""
    needs_pairs, needed = request.method == "dpo", NEEDED[request.method]
    if request.dataset.is_preference != needs_pairs:
        raise RecipeError("method", f"{request.method!r} needs {needed}; the dataset is {request.dataset.format}")
    if request.validation is not None and request.validation.is_preference != needs_pairs:
        form = request.validation.format
        raise RecipeError("validation", f"the held-out examples must be {needed}, as the dataset; they are {form}")
