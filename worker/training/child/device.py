"""Chooses the device and the threads of this process."""

from __future__ import annotations

from common.cores import usable_cores
from common.settings import Settings


def device_of(settings: Settings) -> str:
    """Return the torch device to train on."""
    if settings.train_device != "auto":
        return settings.train_device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def limit_threads(settings: Settings) -> None:
    """Have torch use as many CPU threads as training may."""
    import torch

    torch.set_num_threads(threads_of(settings))


def threads_of(settings: Settings) -> int:
    """Return the number of CPU threads."""
    return settings.train_threads or usable_cores()
