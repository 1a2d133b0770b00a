"""The worker's interface to the engine: a loader of models, and a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from common.jobs.prompts import Prompt
from common.jobs.reasoning import Reasoning
from common.jobs.sampling import Grammar
from common.jobs.tools import ToolForm
from worker.engine.engine import Deliver, Engine
from worker.engine.grammar.constraint import TokenConstraint
from worker.engine.untrusted_code.datasets import DatasetToCheck
from worker.helper.given_up import IsGivenUp
from worker.model.base_card import BaseCard
from worker.model.base_facts import BaseFacts


class Renderer(Protocol):
    """Renders prompts to text and tokens. Thread-safe."""

    def render(
        self, prompt: Prompt, is_given_up: IsGivenUp, check_length: Callable[[int], None]
    ) -> tuple[str, list[int]]:
        """Return the prompt's text and its token ids.

        `check_length` is called with a lower bound of the number of tokens before the prompt is encoded.

        Raises:
            SLMError: raised by `check_length`.
            InvalidRequest: the model does not accept the prompt.
            GivenUp: `is_given_up` became true first.
        """
        ...

    def end_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """Return the tokens that end the answer to this prompt, beside the model's end tokens."""
        ...

    @property
    def tool_form(self) -> ToolForm:
        """The form in which the model writes calls of tools."""
        ...

    @property
    def marker_id(self) -> int | None:
        """The token of the marker of calls, if it is a special token."""
        ...

    def in_form(self, grammar: Grammar) -> Grammar:
        """Return the grammar with the form of the model's calls, if it is one of tools."""
        ...

    def reasoning(self, prompt: Prompt, render: Callable[[], str], parser: str) -> Reasoning | None:
        """Return the reasoning that the answer to a prompt may have; None if it has none.

        `render` returns the rendered prompt, and `parser` is the setting `SLM_REASONING_PARSER`.
        """
        ...

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token; U+FFFD replaces bytes that are not a whole character."""
        ...

    def names(self, ids: Sequence[int]) -> list[str]:
        """Return the name that each token has in the vocabulary."""
        ...

    def about(self) -> dict[str, Any]:
        """Return facts about the tokenizer: its class, special tokens, added tokens, and the chat template."""
        ...

    def check_dataset(self, wanted: DatasetToCheck, is_given_up: IsGivenUp) -> dict[str, Any]:
        """Check a dataset with the tokenizer and template of this model or adapter; return the report.

        Raises:
            InvalidRequest: an option is wrong, or the template cannot be used.
            GivenUp: `is_given_up` became true first.
        """
        ...


class Grammars(Protocol):
    """Creates constraints on an answer's tokens from grammars. Thread-safe."""

    def prepare(self, grammar: Grammar, is_given_up: IsGivenUp) -> None:
        """Do the slow part of `compile`. Raises as `compile`."""
        ...

    def compile(self, grammar: Grammar, is_given_up: IsGivenUp) -> TokenConstraint:
        """Return a constraint for one answer, in its initial state. May take seconds if the grammar was not prepared.

        Raises:
            InvalidRequest: the grammar cannot be used; `param` is its field in the request.
            GivenUp: `is_given_up` became true first.
        """
        ...


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter in memory, or the bare base model, for the jobs that use it. `close` frees it after the last use.

    `id`: the adapter of its sequences.
    """

    id: str
    renderer: Renderer
    grammars: Grammars
    num_bytes: int
    close: Callable[[], None]


class Adapters(Protocol):
    """The adapters of a model, as `worker.model.adapter_cache.AdapterCache` implements it."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the adapters in memory."""
        ...

    @property
    def num_bytes(self) -> int:
        """The memory that they take."""
        ...

    def acquire(
        self, adapter_id: str, is_given_up: IsGivenUp, on_wait: Callable[[], None]
    ) -> AbstractContextManager[LoadedAdapter]:
        """Acquire an adapter for the duration of a `with` block; '' is the bare base model."""
        ...

    def pin(self, adapter_ids: Sequence[str]) -> None:
        """Keep these adapters in memory."""
        ...

    def wait_for_pins(self, is_given_up: IsGivenUp) -> None:
        """Wait until the pinned adapters are in memory, or cannot be."""
        ...


class AdapterObserver(Protocol):
    """Told of what happens to adapters."""

    def note_adapter_load(self, seconds: float, *, succeeded: bool) -> None:
        """Note that a load ended."""
        ...

    def note_adapter_eviction(self) -> None:
        """Note that an adapter was evicted."""
        ...


class ModelContent(NamedTuple):
    """Hashes of the files of a base model and of the default adapter's folder; None if there is no such folder."""

    base: str
    adapter: str | None


@dataclass(frozen=True)
class LoadedModel:
    """A base model in memory, with its adapters. `close` stops its engine and frees the memory."""

    engine: Engine
    adapters: Adapters
    device: str
    dtype: str
    context: int  # maximum tokens of prompt and answer
    base_id: str  # hash of the base model's files
    close: Callable[[], None]
    card: BaseCard = field(default_factory=BaseCard)


@dataclass(frozen=True)
class Accelerators:
    """The accelerators of this machine."""

    cuda: bool
    mps: bool


@dataclass(frozen=True)
class ModelSpec:
    """A base model to load, the device to load it onto, and the folder of the default adapter."""

    device: str
    base_model: str
    lora_path: str | None


class ModelLoader(Protocol):
    """Loads models."""

    @property
    def accelerators(self) -> Accelerators:
        """The accelerators of this machine. The first use may take seconds."""
        ...

    def spec(self) -> ModelSpec:
        """Return what the next load would load; called after `accelerators`."""
        ...

    def content(self) -> ModelContent:
        """Return the hashes of the files that the next load would read. May take seconds if they have changed.

        Raises:
            SLMError: they cannot be read.
        """
        ...

    def base(self) -> BaseFacts:
        """Return the facts about the base model that the next load would load. Takes as long as `content`.

        Raises:
            SLMError: its files cannot be read.
        """
        ...

    def load(self, deliver: Deliver, on_fatal: Callable[[Exception], None], observer: AdapterObserver) -> LoadedModel:
        """Load the configured base model and start its engine, which calls `deliver` and `on_fatal`.

        Raises:
            SLMError: it cannot be loaded; the message says why and how to fix it.
        """
        ...
