"""What torch raises when a device fails, in the words of `model_runner`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from worker.engine.model_runner import DeviceLostError, OutOfMemoryError


@contextmanager
def device_errors() -> Iterator[None]:
    """Around everything that starts work on a device or waits for it.

    Raises:
        OutOfMemoryError: in place of torch's.
        DeviceLostError: in place of a fault of the device, which may be one of work that was started long before.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(str(error).partition("\n")[0]) from error
    except torch.AcceleratorError as error:
        raise DeviceLostError(str(error)) from error
