"""The fields that set whether and how much a model reasons before it answers, and what the client sees of it.

They are variables of the chat template, so they change nothing with a template that does not have them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.schemas.ignored import IGNORED
from api.schemas.meaning import Meaning
from api.schemas.strict import Strict
from api.schemas.template_variables import TemplateVariables, Word

EFFORT = 'a word such as "none", "low", "medium" or "high"'


class ReasoningOptions(Strict):
    """`reasoning`: how much the model reasons."""

    effort: Word | None = None
    summary: Annotated[str | None, IGNORED] = None
    generate_summary: Annotated[str | None, IGNORED] = None


def thinking_variables(*, is_on: bool | None, effort: str | None = None) -> dict[str, Any]:
    """Return the variables under the names that templates use; `is_on` None: as the template does by itself."""
    named = {} if effort in (None, "none") else {"reasoning_effort": effort}
    if is_on is None and effort is not None:
        is_on = effort != "none"
    return named | ({} if is_on is None else {"enable_thinking": is_on, "thinking": is_on})


class ReasoningEffort(TemplateVariables):
    """For chats and responses."""

    reasoning_effort: Annotated[
        Word | None, Meaning("How much the model reasons: a variable of the chat template; `none` turns it off.")
    ] = Field(None, description=EFFORT)
    reasoning: Annotated[ReasoningOptions | None, Meaning("`effort` is another name for `reasoning_effort`.")] = Field(
        None, description="an object with effort and summary"
    )

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the chat template; `chat_template_kwargs` comes first."""
        effort = self.reasoning_effort
        if effort is None and self.reasoning is not None:
            effort = self.reasoning.effort
        return thinking_variables(is_on=self._is_on, effort=effort) | (self.chat_template_kwargs or {})

    @property
    def _is_on(self) -> bool | None:
        return None


class ChatReasoning(ReasoningEffort):
    """For chats."""

    enable_thinking: Annotated[
        bool | None, Meaning("Whether the model reasons before it answers, if its chat template has that choice.")
    ] = Field(None, description="true or false")
    include_reasoning: Annotated[bool, Meaning("Whether the answer has the model's reasoning; as vLLM.")] = Field(
        True, description="true or false"
    )
    reasoning_format: Annotated[
        Literal["auto", "deepseek", "none"] | None,
        Meaning("With `none`, reasoning stays a part of the content; as llama.cpp."),
    ] = Field(None, description='"auto", "deepseek" or "none"')

    @property
    def splits_reasoning(self) -> bool:
        """Whether reasoning is not a part of the content."""
        return self.reasoning_format != "none"

    @property
    def _is_on(self) -> bool | None:
        return self.enable_thinking
