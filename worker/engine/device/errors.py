"""Translates torch's device errors into those of `model_runner`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from worker.engine.model_runner import DeviceLostError, OutOfMemoryError


@contextmanager
def device_errors() -> Iterator[None]:
    """Translate the errors of code that starts work on a device or waits for it.

    Raises:
        OutOfMemoryError: instead of torch's error.
        DeviceLostError: instead of a device fault, which may come from work that was started long before.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(str(error).partition("\n")[0]) from error
    except torch.AcceleratorError as error:
        raise DeviceLostError(str(error)) from error
