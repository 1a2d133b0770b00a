"""The order of operations in a capture of CUDA graphs, with stand-ins for the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from worker.engine.device.graphs import CudaGraphs

DEVICE = torch.device("cuda", 0)


class FakeCuda:
    """Records the operations on each stream."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.pools: list[object] = []
        self._stream = "main"

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "Stream", lambda _: FakeStream(self, "side"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: FakeStream(self, self._stream))
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
        monkeypatch.setattr(torch.cuda, "device", lambda _: self.on("main"))
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: self.on(stream.name))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: FakeGraph(self))
        monkeypatch.setattr(torch.cuda, "graph", self.graph)

    @contextmanager
    def on(self, stream: str) -> Iterator[None]:
        before, self._stream = self._stream, stream
        try:
            yield
        finally:
            self._stream = before

    @contextmanager
    def graph(self, _: object, *, pool: object, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        self.pools.append(pool)
        self.events.append("begin")
        with self.on(stream.name):
            yield
        self.events.append("end")

    def step(self) -> None:
        self.events.append(f"step on {self._stream}")


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.name = name
        self._cuda = cuda

    def wait_stream(self, other: FakeStream) -> None:
        self._cuda.events.append(f"{self.name} waits for {other.name}")


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def replay(self) -> None:
        self._cuda.events.append("replay")


def test_a_step_runs_first_on_the_stream_of_its_capture_and_all_share_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    cuda.install(monkeypatch)
    graphs = CudaGraphs(DEVICE)

    replay = graphs.capture(cuda.step)
    recorded, cuda.events = cuda.events, []
    graphs.capture(lambda: None)

    trial = ["side waits for main", "step on side", "main waits for side"]
    assert recorded == [*trial, "begin", "step on side", "end"]
    assert len(cuda.pools) == 2
    assert cuda.pools[0] is cuda.pools[1]
    cuda.events.clear()
    replay()
    assert cuda.events == ["replay"]
