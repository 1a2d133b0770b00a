"""Captures a step once and replays it: as a CUDA graph, or not at all on other devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Step = Callable[[], None]


class StepCapture(Protocol):
    """Speeds up a step that runs many times with the same tensors."""

    def capture(self, step: Step) -> Step:
        """Return a function that runs the step again. Capturing may run the step any number of times.

        Args:
            step: reads and writes tensors at fixed addresses; running it twice has the same effect as once. It must not
                copy anything between host and device.
        """
        ...


class PlainSteps:
    """Runs steps without capturing them."""

    def capture(self, step: Step) -> Step:
        """As `StepCapture.capture`."""
        return step


class CudaGraphs:
    """Runs steps as CUDA graphs: one launch for all their kernels.

    All graphs share one memory pool. This is safe because graphs never run concurrently and do not pass data through
    the pool: steps write their results to tensors that were allocated before.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Steps are tried and captured on the same stream, so that libraries have allocated their memory for it already.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, step: Step) -> Step:
        """As `StepCapture.capture`; waits for the device."""
        stream = torch.cuda.current_stream(self._device)
        # The outer context restores the thread's own stream if the capture fails.
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            self._stream.wait_stream(stream)
            with torch.cuda.stream(self._stream):
                step()  # libraries choose and load their kernels at the first call, which a graph cannot capture
            stream.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads of the process may use CUDA meanwhile, for example to query the free memory.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                step()
        return graph.replay
