"""The tools of a request, and the choice between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.schemas.anthropic.blocks import CacheControl
from api.schemas.ignored import IGNORED
from api.schemas.meaning import Meaning
from api.schemas.shown import shown
from api.schemas.strict import FIRST_ERROR, Strict
from api.schemas.tools import (
    ALL_TOOLS,
    MAX_TOOLS,
    FunctionDefinition,
    FunctionName,
    ObjectSchema,
    ToolChoice,
    check_choice,
)


class AnthropicTool(Strict):
    """A tool that the client runs. If `strict`, a schema that cannot be followed completely is refused."""

    type: Literal["custom"] = "custom"
    name: FunctionName
    description: str | None = None
    input_schema: ObjectSchema
    strict: bool | None = None
    cache_control: CacheControl = None
    eager_input_streaming: Annotated[bool | None, IGNORED] = None
    input_examples: Annotated[list[dict[str, Any]] | None, IGNORED] = None

    @model_validator(mode="before")
    @classmethod
    def _is_the_client_s(cls, fields: Any) -> Any:
        kind = (fields.get("type") if isinstance(fields, dict) else None) or "custom"
        if kind != "custom":
            raise ValueError(f'must have the type "custom", the only one that is supported; got {shown(kind)}')
        return fields

    def to_function(self) -> FunctionDefinition:
        """Return the tool as the other APIs have it."""
        return FunctionDefinition(
            name=self.name, description=self.description, parameters=self.input_schema, strict=self.strict
        )


class AnthropicToolChoice(Strict):
    """`tool_choice`."""

    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = None
    disable_parallel_tool_use: bool = False

    @model_validator(mode="after")
    def _has_name_if_required(self) -> AnthropicToolChoice:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError('must have a name if, and only if, its type is "tool"')
        return self

    def to_choice(self) -> ToolChoice:
        """Return the choice as the other APIs have it."""
        match self.type:
            case "tool":
                return ToolChoice(mode="required", names=(self.name or "",))
            case "any":
                return ToolChoice(mode="required")
            case mode:
                return ToolChoice(mode=mode)


class AnthropicToolFields(Strict):
    """The fields that concern tools."""

    tools: Annotated[list[AnthropicTool], FIRST_ERROR, Meaning("Tools that the answer may call.")] = Field(
        default_factory=list, max_length=MAX_TOOLS, description=f"a list of at most {MAX_TOOLS} tools"
    )
    tool_choice: Annotated[
        AnthropicToolChoice | None, Meaning("Whether the answer may or must call a tool, and which.")
    ] = Field(None, description='an object with the type "auto", "any", "tool" or "none"')

    @model_validator(mode="after")
    def _names_its_tools(self) -> AnthropicToolFields:
        check_choice(self.functions, self.chosen, "tools", "tool_choice")
        return self

    @property
    def functions(self) -> list[FunctionDefinition]:
        """The tools as the other APIs have them."""
        return [tool.to_function() for tool in self.tools]

    @property
    def chosen(self) -> ToolChoice:
        """The choice as the other APIs have it."""
        return ALL_TOOLS if self.tool_choice is None else self.tool_choice.to_choice()

    @property
    def allows_several_calls(self) -> bool:
        """Whether the answer may have several calls."""
        return self.tool_choice is None or not self.tool_choice.disable_parallel_tool_use
