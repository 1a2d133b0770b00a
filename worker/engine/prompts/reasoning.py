"""Finds whether an answer may begin with reasoning, from the chat template and from the prompt that it has rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from common.jobs.prompts import Conversation, Ending, Prompt
from common.jobs.reasoning import FORMS, Reasoning, ReasoningForm

AUTO = "auto"  # as a parser's name: find the form


def template_form(template: str) -> ReasoningForm | None:
    """Return the form whose second tag the template has, to leave out earlier reasoning or to switch it off."""
    return next((form for form in FORMS.values() if form.end in template), None)


def chosen_form(parser: str, template: str) -> ReasoningForm | None:
    """Return the form for the parser of the settings: a form's name or `AUTO`; None for every other one."""
    return template_form(template) if parser == AUTO else FORMS.get(parser)


def reasoning(
    form: ReasoningForm, prompt: Prompt, render: Callable[[], str], special_ids: Mapping[str, int]
) -> Reasoning | None:
    """Return the reasoning of the answer to a prompt; None if it has none.

    Args:
        form: the model's.
        prompt: the prompt.
        render: returns the prompt as the model sees it. It is called only if that matters.
        special_ids: the special tokens of the tokenizer, by their names.
    """
    if not isinstance(prompt, Conversation):
        return None
    is_open = _is_open(form, prompt, render)
    ids = special_ids.get(form.begin), special_ids.get(form.end)
    return None if is_open is None else Reasoning(form, is_open, *ids)


def _is_open(form: ReasoningForm, prompt: Conversation, render: Callable[[], str]) -> bool | None:
    """Return whether the prompt ends inside the reasoning; None if it ends after it, or within the answer."""
    if prompt.ending is Ending.CONTINUE and (begun := prompt.messages[-1]["content"].strip()):
        return True if form.begin in begun and form.end not in begun else None
    said = render().rstrip()
    return None if said.endswith(form.end) else said.endswith(form.begin)
