"""The fields and input items of a response's request that concern tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.schemas.ignored import IGNORED
from api.schemas.meaning import Meaning
from api.schemas.messages import Content, SentBack, arguments_of
from api.schemas.strict import FIRST_ERROR, Strict
from api.schemas.tools import (
    ALL_TOOLS,
    CHOICE,
    MAX_TOOLS,
    FunctionDefinition,
    FunctionName,
    Mode,
    ToolChoice,
    TypedTool,
    check_choice,
)
from common.jobs.prompts import Message as PromptMessage

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class FunctionTool(TypedTool, FunctionDefinition):
    """A tool."""

    type: Literal["function"]


class FunctionToolReference(Strict):
    """A tool by its name."""

    type: Literal["function"]
    name: FunctionName


class AllowedFunctionTools(Strict):
    """Restricts the calls to some of the tools."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionToolReference], FIRST_ERROR] = Field(min_length=1, max_length=MAX_TOOLS)


class ResponseToolFields(Strict):
    """The fields of a response's request that concern tools."""

    tools: Annotated[list[FunctionTool], FIRST_ERROR] = Field(
        default_factory=list, max_length=MAX_TOOLS, description=f"a list of at most {MAX_TOOLS} tools"
    )
    tool_choice: Mode | FunctionToolReference | AllowedFunctionTools | None = Field(None, description=CHOICE)
    parallel_tool_calls: Annotated[bool | None, Meaning("Whether one answer may have several calls.")] = Field(
        None, description="true or false"
    )

    @model_validator(mode="after")
    def _names_its_tools(self) -> ResponseToolFields:
        check_choice(self.tools, self.chosen, "tools", "tool_choice")
        return self

    @property
    def chosen(self) -> ToolChoice:
        """Which functions the answer may or must call."""
        match self.tool_choice:
            case None:
                return ALL_TOOLS
            case FunctionToolReference(name=name):
                return ToolChoice(mode="required", names=(name,))
            case AllowedFunctionTools(mode=mode, tools=tools):
                return ToolChoice(mode=mode, names=tuple(tool.name for tool in tools))
            case mode:
                return ToolChoice(mode=mode)

    def tools_said_back(self) -> dict[str, Any]:
        """Return the fields as the response object repeats them."""
        choice = self.tool_choice or "auto"
        return {
            "tools": [tool.model_dump() for tool in self.tools],
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "parallel_tool_calls": self.parallel_tool_calls is not False,
        }


class FunctionCallItem(SentBack):
    """A call in an earlier response."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    arguments: str
    id: Annotated[str | None, IGNORED] = None
    status: Annotated[ItemStatus | None, IGNORED] = None

    def to_prompt(self) -> dict[str, Any]:
        """Return the call for the prompt."""
        function = {"name": self.name, "arguments": arguments_of(self.arguments)}
        return {"id": self.call_id, "type": "function", "function": function}


class FunctionCallOutput(SentBack):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1)
    output: Content = Field(description="a string or a list of text parts")
    id: Annotated[str | None, IGNORED] = None
    status: Annotated[ItemStatus | None, IGNORED] = None

    def to_prompt(self) -> PromptMessage:
        """Return the result for the prompt."""
        return {"role": "tool", "content": self.output, "tool_call_id": self.call_id}
