"""`chat_template_kwargs`: a client's variables for the model's chat template, as vLLM names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, ValidationError, WithJsonSchema, WrapValidator, model_validator

from api.schemas.meaning import Meaning
from api.schemas.shown import shown
from api.schemas.strict import Strict, at_most
from common.errors import InvalidRequest

MAX_VARIABLES = 16
# What the server or the tokenizer sets.
_OURS = (
    "^(messages|conversations|tools|documents|chat_template|add_generation_prompt|continue_final_message"
    "|return_assistant_tokens_mask|.*_tokens?)$"
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
# No text that could spell one of the model's special tokens: the template's own text may have those.
WORD = r"^[A-Za-z0-9 ._-]{0,64}$"
Word = Annotated[str, Field(pattern=WORD)]
VALUE = "true, false, null, a number, or a text of at most 64 letters, digits, spaces, '.', '_' and '-'"
FORM = f"an object with at most {MAX_VARIABLES} fields, each {VALUE}"


def _explained(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError as err:  # it names the first type of the union only
        raise ValueError(f"must be {VALUE}; got {shown(value)}") from err


Variable = Annotated[
    bool | int | float | Word | None,
    WrapValidator(_explained),
    # A list of types, because RapiDoc (the page at /docs) recurses without end into `anyOf` here.
    WithJsonSchema({"type": ["boolean", "number", "string", "null"], "pattern": WORD}),
]


class TemplateVariables(Strict):
    """For a body with `messages`."""

    chat_template_kwargs: Annotated[
        Annotated[
            dict[Name, Variable],
            Field(max_length=MAX_VARIABLES, json_schema_extra={"propertyNames": {"not": {"pattern": _OURS}}}),
            at_most(MAX_VARIABLES),
        ]
        | None,
        Meaning("Variables for the model's chat template, such as `enable_thinking`; most templates have none."),
    ] = Field(None, description=FORM)

    @model_validator(mode="after")
    def _sets_none_of_ours(self) -> TemplateVariables:
        if wrong := [name for name in self.chat_template_kwargs or {} if re.match(_OURS, name)]:
            raise InvalidRequest(
                f"chat_template_kwargs cannot have {wrong[0]}, which the server sets", param="chat_template_kwargs"
            )
        return self
