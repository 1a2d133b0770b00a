"""Renders the prompt of a generation, and finds the syntax of its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from common.jobs.job import GenerateParams
from common.jobs.prompts import TokenIds
from common.jobs.reasoning import Reasoning
from common.jobs.sampling import Grammar
from worker.engine.engine import Engine
from worker.helper.given_up import IsGivenUp
from worker.model.protocols import Renderer


def rendered(
    params: GenerateParams, renderer: Renderer, engine: Engine, is_given_up: IsGivenUp
) -> tuple[str, list[int]]:
    """Return the text and the tokens of the prompt that the model sees.

    Raises:
        SLMError: the model does not accept the prompt, or it is too long and the client did not ask to cut it.
        GivenUp: `is_given_up` became true first.
    """
    if params.cut is None:
        return renderer.render(params.prompt, is_given_up, engine.check_length)
    text, token_ids = renderer.render(params.prompt, is_given_up, lambda _: None)
    kept = params.cut.of(token_ids)
    if len(kept) == len(token_ids):
        return text, token_ids
    return renderer.render(TokenIds(tuple(kept)), is_given_up, engine.check_length)


def reasoning_of(
    params: GenerateParams, render: Callable[[], str], renderer: Renderer, parser: str
) -> Reasoning | None:
    """Return the reasoning that the answer may have; None if it has none, or it is not split off.

    `render` returns the rendered prompt. It is called only if the model may reason.
    """
    return renderer.reasoning(params.prompt, render, parser) if params.splits_reasoning else None


def in_form(grammar: Grammar, renderer: Renderer, reasoning: Reasoning | None) -> Grammar:
    """Return the grammar of the whole answer, for this model."""
    return replace(renderer.in_form(grammar), reasoning=reasoning)
