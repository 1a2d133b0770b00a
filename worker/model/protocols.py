"""What the worker asks of the computing side: a backend that loads a model, and the loaded model, ready to serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from common.jobs.prompts import Prompt
from common.jobs.sampling import Grammar
from worker.engine.engine import Deliver, Engine
from worker.engine.grammar.constraint import TokenConstraint
from worker.helper.given_up import IsGivenUp


class Renderer(Protocol):
    """Turns a prompt into what the model sees. Safe from several threads."""

    def render(
        self, prompt: Prompt, is_given_up: IsGivenUp, check_length: Callable[[int], None]
    ) -> tuple[str, list[int]]:
        """The prompt's text and its token ids.

        `check_length` is called with the number of tokens that the prompt certainly has before it is encoded.

        Raises:
            SLMError: what `check_length` raises.
            InvalidRequest: the model cannot take such a prompt.
            GivenUp: `is_given_up` became true first.
        """
        ...

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself; U+FFFD stands for what is no whole character."""
        ...


class Grammars(Protocol):
    """Turns grammars into limits on an answer's tokens. Safe from several threads."""

    def prepare(self, grammar: Grammar, is_given_up: IsGivenUp) -> None:
        """Do what takes long of `compile`, and raise as it does."""
        ...

    def compile(self, grammar: Grammar, is_given_up: IsGivenUp) -> TokenConstraint:
        """A constraint for one answer, in its first state. May take seconds if the grammar was not prepared lately.

        Raises:
            InvalidRequest: the grammar cannot be used; `param` names the field that it came in.
            GivenUp: `is_given_up` became true first.
        """
        ...


class ModelContent(NamedTuple):
    """What the files of a base model and of its adapter hold, as hashes; the adapter's is None if there is none."""

    base: str
    adapter: str | None


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory. `close` stops its engine and gives the memory back."""

    engine: Engine
    renderer: Renderer
    grammars: Grammars
    device: str
    dtype: str
    context: int  # most tokens of prompt and answer
    content: ModelContent
    close: Callable[[], None]


@dataclass(frozen=True)
class Accelerators:
    """Which accelerators this machine offers."""

    cuda: bool
    mps: bool


@dataclass(frozen=True)
class ModelSpec:
    """What is to be loaded, and where to."""

    device: str
    base_model: str
    lora_path: str | None


class ModelLoader(Protocol):
    """Loads models."""

    @property
    def accelerators(self) -> Accelerators:
        """What this machine offers. The first use may take seconds."""
        ...

    def spec(self) -> ModelSpec:
        """What the next load would load; asked for after `accelerators`."""
        ...

    def content(self) -> ModelContent:
        """What the next load would load, by the files on the disk. May take seconds if they have changed.

        Raises:
            SLMError: they cannot be read.
        """
        ...

    def load(self, deliver: Deliver, on_fatal: Callable[[Exception], None]) -> LoadedModel:
        """Load the configured model and start its engine, which reports to `deliver` and `on_fatal`.

        Raises:
            SLMError: it cannot be loaded; the message says why and what to do.
        """
        ...
