"""The fields of chat completions that concern tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from api.schemas.grammar import Schema
from api.schemas.meaning import Meaning
from api.schemas.shown import shown
from api.schemas.strict import FIRST_ERROR, Strict
from common.errors import InvalidRequest

MAX_TOOLS = 128
FUNCTION_NAME = r"^[A-Za-z0-9_.-]{1,64}$"

FunctionName = Annotated[str, Field(pattern=FUNCTION_NAME)]
Mode = Literal["none", "auto", "required"]


def _of_object(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type", "object") != "object":
        raise ValueError(f"must be the JSON schema of an object; its type is {schema['type']!r}")
    return schema


ObjectSchema = Annotated[Schema, AfterValidator(_of_object)]


class FunctionDefinition(Strict):
    """A function that the answer may call. If `strict`, a schema that cannot be followed completely is refused."""

    name: FunctionName
    description: str | None = None
    parameters: ObjectSchema | None = None
    strict: bool | None = None

    @property
    def schema_of_arguments(self) -> dict[str, Any]:
        """The JSON schema of the arguments; a function without parameters has no arguments."""
        return {"type": "object", "properties": {}} if self.parameters is None else self.parameters

    def for_prompt(self) -> dict[str, Any]:
        """Return the tool as chat templates expect it."""
        described = {} if self.description is None else {"description": self.description}
        function = {"name": self.name, **described, "parameters": self.schema_of_arguments}
        return {"type": "function", "function": function}


class TypedTool(Strict):
    """The base of tools. OpenAI's other types, such as its search, are programs that it runs itself."""

    @model_validator(mode="before")
    @classmethod
    def _is_function(cls, fields: Any) -> Any:
        kind = fields.get("type") if isinstance(fields, dict) else "function"
        if kind != "function":
            raise ValueError(f'must have the type "function", the only one that is supported; got {shown(kind)}')
        return fields


class ChatTool(TypedTool):
    """A tool."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionReference(Strict):
    """The name of a function."""

    name: FunctionName


class ToolReference(Strict):
    """A tool by its name."""

    type: Literal["function"]
    function: FunctionReference


class AllowedTools(Strict):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[ToolReference], FIRST_ERROR] = Field(min_length=1, max_length=MAX_TOOLS)


class AllowedToolsChoice(Strict):
    """Restricts the calls to some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class ToolChoice(Strict):
    """Which functions the answer may or must call. `names` are the allowed ones; None: all."""

    mode: Mode
    names: tuple[str, ...] | None = None


ALL_TOOLS = ToolChoice(mode="auto")
CHOICE = '"none", "auto", "required" or an object that names tools'


class ToolFields(Strict):
    """The fields of a chat completion with tools, and those that OpenAI had before them."""

    tools: Annotated[list[ChatTool], FIRST_ERROR, Meaning("Functions that the answer may call.")] = Field(
        default_factory=list, max_length=MAX_TOOLS, description=f"a list of at most {MAX_TOOLS} tools"
    )
    tool_choice: Annotated[
        Mode | ToolReference | AllowedToolsChoice | None,
        Meaning("Whether the answer may or must call a function, and which."),
    ] = Field(None, description=CHOICE)
    parallel_tool_calls: Annotated[bool | None, Meaning("Whether one answer may have several calls.")] = Field(
        None, description="true or false"
    )
    functions: Annotated[
        list[FunctionDefinition], FIRST_ERROR, Meaning("The older form of `tools`; the answer has one call at most.")
    ] = Field(default_factory=list, max_length=MAX_TOOLS, description=f"a list of at most {MAX_TOOLS} functions")
    function_call: Annotated[
        Literal["none", "auto"] | FunctionReference | None, Meaning("The older form of `tool_choice`.")
    ] = Field(None, description='"none", "auto" or an object with a name')

    @model_validator(mode="after")
    def _names_its_tools(self) -> ToolFields:
        if self.tools and self.functions:
            raise InvalidRequest("functions must not be used together with tools", param="functions")
        check_choice(self.declared, self.chosen, "functions" if self.functions else "tools", self._choice_field)
        return self

    @property
    def _choice_field(self) -> str:
        return "tool_choice" if self.function_call is None else "function_call"

    @property
    def declared(self) -> list[FunctionDefinition]:
        """The functions of either form."""
        return self.functions or [tool.function for tool in self.tools]

    @property
    def chosen(self) -> ToolChoice:
        """The choice of either form."""
        match self.tool_choice if self.function_call is None else self.function_call:
            case None:
                return ALL_TOOLS
            case ToolReference(function=function):
                return ToolChoice(mode="required", names=(function.name,))
            case FunctionReference(name=name):
                return ToolChoice(mode="required", names=(name,))
            case AllowedToolsChoice(allowed_tools=allowed):
                return ToolChoice(mode=allowed.mode, names=tuple(tool.function.name for tool in allowed.tools))
            case mode:
                return ToolChoice(mode=mode)


def check_choice(declared: Sequence[FunctionDefinition], choice: ToolChoice, field: str, choice_field: str) -> None:
    """Check that the names of the functions are unique, and that those in the choice exist.

    Raises:
        InvalidRequest: they do not; `param` is one of the fields.
    """
    names = [one.name for one in declared]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise InvalidRequest(f"{field} must have different names; {doubled!r} comes twice", param=field)
    if choice.mode == "required" and not names:
        raise InvalidRequest(f"{choice_field} can only require a call if there are {field}", param=choice_field)
    for name in choice.names or ():
        if name not in names:
            raise InvalidRequest(f"{choice_field} must name one of the {field}; got {name!r}", param=choice_field)
