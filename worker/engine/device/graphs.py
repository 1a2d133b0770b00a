"""Recording a step once and running it again: CUDA graphs, or nothing where there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Step = Callable[[], None]


class StepRecorder(Protocol):
    """Makes a step fast that is run many times with the same tensors."""

    def record(self, step: Step) -> Step:
        """What runs the step again. The step may be run now, once or more, or not at all.

        Args:
            step: reads and writes tensors that stay where they are, and gives the same when it is run twice. It must
                not ask the device for anything, nor bring it anything from the host.
        """
        ...


class PlainSteps:
    """Runs steps as they are."""

    def record(self, step: Step) -> Step:
        """As `StepRecorder.record`."""
        return step


class CudaGraphs:
    """Runs steps as CUDA graphs: one launch for all their kernels.

    All graphs share one pool of memory, which is safe because no two of them ever run at once and none leaves anything
    in it for another: what a step returns is written to tensors that were there before.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Steps are tried and recorded on one stream, so that what libraries allocate for a stream is there already.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, step: Step) -> Step:
        """As `StepRecorder.record`; waits for the device."""
        stream = torch.cuda.current_stream(self._device)
        # The outer context sees to it that a recording that fails leaves the thread on its own stream.
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            self._stream.wait_stream(stream)
            with torch.cuda.stream(self._stream):
                step()  # libraries choose and load their kernels at the first call, which a graph cannot hold
            stream.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads of the process may use CUDA meanwhile, e.g. to ask for free memory.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                step()
        return graph.replay
