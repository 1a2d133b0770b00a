"""The preparation of a generation: what it renders and compiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from common.jobs.job import GenerateParams
from common.jobs.preparation import LONG_PROMPT
from common.jobs.prompts import Conversation, Prompt
from common.jobs.reasoning import THINK, Reasoning
from common.jobs.sampling import Grammar, GrammarKind, SamplingParams
from tests.fakes import FakeRenderer, RenderedPrompt
from worker.engine.sequence import BASE_ADAPTER
from worker.jobs.prepare import Preparation
from worker.model.manager import ModelHandle
from worker.model.protocols import LoadedAdapter


class CountingRenderer(FakeRenderer):
    """Counts what it renders. Its model may reason if the parser is not "none"."""

    num_rendered = 0

    def render(self, prompt: Prompt, _is_given_up: object = None, _check_length: object = None) -> RenderedPrompt:
        self.num_rendered += 1
        return super().render(prompt)

    def reasoning(self, prompt: Prompt, render: Callable[[], str], parser: str) -> Reasoning | None:
        return None if parser == "none" else Reasoning(THINK, render().endswith(THINK.begin))


class Station:
    """Prepares one job."""

    def __init__(self) -> None:
        self.renderer = CountingRenderer()
        self.compiled: list[Grammar] = []
        self.checked: list[int] = []

    def prepare(self, parser: str, text: str, grammar: Grammar | None) -> None:
        prompt = Conversation(({"role": "user", "content": text},))
        params = GenerateParams(prompt, SamplingParams(seed=0, grammar=grammar), splits_reasoning=True)
        record = SimpleNamespace(params=params.to_dict(), adapter_id="")
        job: Any = SimpleNamespace(job=record, is_given_up=False, sequence_id="j/1", attempt=1)
        store: Any = SimpleNamespace(advance=lambda *_: None)
        manager: Any = SimpleNamespace(acquire=self._acquire)
        Preparation(store, manager, parser).run(job)

    @contextmanager
    def _acquire(self, *_: object) -> Iterator[ModelHandle]:
        grammars: Any = SimpleNamespace(prepare=lambda grammar, _: self.compiled.append(grammar))
        adapter = LoadedAdapter(BASE_ADAPTER, self.renderer, grammars, 0, lambda: None)
        engine = SimpleNamespace(
            check_length=None, check=lambda sequence: self.checked.append(len(sequence.prompt_ids))
        )
        model: Any = SimpleNamespace(engine=engine, adapters=SimpleNamespace(acquire=lambda *_: nullcontext(adapter)))
        yield ModelHandle(model, False)


SCHEMA = Grammar(GrammarKind.JSON_SCHEMA, "{}")


@pytest.mark.parametrize(
    ("parser", "text", "grammar", "num_rendered"),
    [
        ("none", "Hi", SCHEMA, 0),
        ("think", "Hi", SCHEMA, 1),
        ("none", "x" * (LONG_PROMPT + 1), None, 1),
        ("think", "x" * (LONG_PROMPT + 1), SCHEMA, 1),
    ],
    ids=["a model that does not reason", "one that may", "a long prompt", "both"],
)
def test_a_prompt_is_rendered_once_and_only_if_it_counts(
    parser: str, text: str, grammar: Grammar | None, num_rendered: int
) -> None:
    station = Station()
    station.prepare(parser, text, grammar)
    assert station.renderer.num_rendered == num_rendered
    assert len(station.checked) == (len(text) > 2)
    assert len(station.compiled) == (grammar is not None)


def test_the_grammar_begins_after_the_reasoning_that_the_prompt_has_opened() -> None:
    station = Station()
    station.prepare("think", f"Why? {THINK.begin}", SCHEMA)
    assert [one.reasoning for one in station.compiled] == [Reasoning(THINK, is_open=True)]
