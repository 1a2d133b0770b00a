"""What the worker asks of the computing side: a backend that loads a model, and the loaded model, ready to serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from worker.engine.engine import Deliver, Engine


class Renderer(Protocol):
    """Turns an instruction into what the model sees."""

    def render(self, instruction: str) -> tuple[str, list[int]]:
        """The prompt's text and its token ids. Safe from several threads."""
        ...


@dataclass(frozen=True)
class Serving:
    """A model in memory. `close` stops its engine and gives the memory back."""

    engine: Engine
    renderer: Renderer
    device: str
    dtype: str
    base_model: str
    lora_path: str | None
    context: int  # most tokens of prompt and answer
    close: Callable[[], None]


@dataclass(frozen=True)
class Accelerators:
    """Which accelerators this machine offers."""

    cuda: bool
    mps: bool


class Backend(Protocol):
    """Loads models."""

    def accelerators(self) -> Accelerators:
        """Look what there is. The first call imports torch, which takes seconds."""
        ...

    def load(self, deliver: Deliver, on_fatal: Callable[[Exception], None]) -> Serving:
        """Load the configured model and start its engine, which reports to `deliver` and `on_fatal`.

        Raises:
            SLMError: it cannot be loaded; the message says why and what to do.
        """
        ...
