"""Engines over fakes that are stopped when their test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.fakes import FakeRunner, Outputs, fake_engine
from worker.engine.engine import Engine

StartEngine = Callable[..., Engine]


@pytest.fixture(autouse=True, scope="session")
def _single_thread() -> None:
    """Tiny tensors gain nothing from threads, and spinning threads are a hundred times slower on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(params=[False, True], ids=["plain", "overlap"])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with both engines: the results must be the same."""
    monkeypatch.setattr(FakeRunner, "can_overlap", request.param)


@pytest.fixture
def outputs() -> Outputs:
    return Outputs()


@pytest.fixture
def start_engine(outputs: Outputs) -> Iterator[StartEngine]:
    """Start an engine over a `FakeRunner` that delivers to `outputs`."""
    engines: list[Engine] = []

    def start(runner: FakeRunner | None = None, **options: object) -> Engine:
        engine = fake_engine(outputs, runner=runner, **options)  # type: ignore[arg-type]
        engine.start()
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.stop()
