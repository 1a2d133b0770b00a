"""The bodies of requests under `/api`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.schemas.grammar import SCHEMA_BOUNDS, Schema, schema_grammar
from api.schemas.ignored import IGNORED
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, Message, conversation
from api.schemas.ollama.messages import Nothing, OllamaMessage, in_prompt_form
from api.schemas.ollama.options import OllamaOptions
from api.schemas.reasoning import EFFORT, thinking_variables
from api.schemas.strict import FIRST_ERROR, Strict
from api.schemas.template_variables import Word
from api.schemas.tool_use import ToolUse, tool_use
from api.schemas.tools import ALL_TOOLS, MAX_TOOLS, ChatTool, FunctionDefinition, check_choice
from common.embedding.task import MAX_INPUTS, EmbedParams
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.prompts import Conversation, Ending, Prompt, RawText
from common.jobs.sampling import Grammar, GrammarKind

LATEST = ":latest"  # the tag that Ollama's clients add to a name without one


class _ModelBody(Strict):
    model: str = Field(min_length=1, description="the name of a model that GET /api/tags lists")

    @property
    def name(self) -> str:
        """The name without Ollama's tag."""
        return self.model.removesuffix(LATEST)


class ShowBody(_ModelBody):
    """Body of `POST /api/show`."""

    verbose: Annotated[bool | None, IGNORED, Meaning("Accepted and ignored: everything is always shown.")] = Field(
        None, description="true or false"
    )


class _GenerationBody(_ModelBody):
    """The fields that chats and generations share."""

    stream: Annotated[bool, Meaning("Whether to stream the answer.")] = Field(True, description="true or false")
    format: Annotated[
        Literal["", "json"] | Schema | None, Meaning("The form that the answer must have: any JSON, or a JSON schema.")
    ] = Field(None, description=f'"json" or a JSON schema {SCHEMA_BOUNDS}')
    options: Annotated[OllamaOptions, Meaning("Sampling settings, under Ollama's names and with its defaults.")] = (
        Field(OllamaOptions(), description="an object")
    )
    keep_alive: Annotated[
        str | int | float | None, IGNORED, Meaning("Accepted and ignored: the server decides which models stay loaded.")
    ] = Field(None, description="a duration")
    think: Annotated[
        bool | Word | None,
        Meaning("Whether the model reasons before it answers, if its chat template can do so, or how much."),
    ] = Field(None, description=f"true, false, or {EFFORT}")

    @property
    def can_call(self) -> bool:
        """Whether the answer may call tools."""
        return False

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the chat template."""
        if isinstance(self.think, str):
            return thinking_variables(is_on=None, effort=self.think)
        return thinking_variables(is_on=self.think)

    @property
    def shows_reasoning(self) -> bool:
        """Whether the answer has the model's reasoning."""
        return self.think is not False

    @property
    def grammar(self) -> Grammar | None:
        """The grammar for the worker; None if any answer is allowed."""
        return self.form

    @property
    def form(self) -> Grammar | None:
        """The grammar of an answer without calls of tools."""
        if isinstance(self.format, dict):
            return schema_grammar(self.format)
        return Grammar(GrammarKind.JSON_OBJECT) if self.format == "json" else None

    def to_params(self) -> GenerateParams:
        """Return the generation."""
        return GenerateParams(self.to_prompt(), self.options.sampling(self.grammar), splits_reasoning=True)

    @abstractmethod
    def to_prompt(self) -> Prompt:
        """Return the prompt."""

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there is nothing to answer: the client only wants the model to be loaded."""


class OllamaChatBody(_GenerationBody):
    """Body of `POST /api/chat`."""

    messages: Annotated[list[OllamaMessage], FIRST_ERROR] = Field(
        default_factory=list,
        max_length=MAX_MESSAGES,
        description=f"a list of at most {MAX_MESSAGES} messages, each an object",
    )
    tools: Annotated[list[ChatTool], FIRST_ERROR, Meaning("Functions that the answer may call.")] = Field(
        default_factory=list, max_length=MAX_TOOLS, description=f"a list of at most {MAX_TOOLS} tools"
    )

    @model_validator(mode="after")
    def _names_its_tools(self) -> OllamaChatBody:
        check_choice(self._functions, ALL_TOOLS, "tools", "tools")
        return self

    @model_validator(mode="after")
    def _has_results_of_its_calls(self) -> OllamaChatBody:
        if self.messages and self.messages[-1].tool_calls:
            raise InvalidRequest("messages must go on with the results of the last calls", param="messages")
        return self

    @property
    def _functions(self) -> list[FunctionDefinition]:
        return [tool.function for tool in self.tools]

    @property
    def _tool_use(self) -> ToolUse:
        return tool_use(self._functions, ALL_TOOLS, self.form, several=True)

    @property
    def can_call(self) -> bool:
        """See `_GenerationBody.can_call`."""
        return bool(self.tools)

    @property
    def grammar(self) -> Grammar | None:
        """See `_GenerationBody.grammar`."""
        return self._tool_use.grammar

    def to_prompt(self) -> Conversation:
        """Return the conversation; the answer continues a last message of the assistant."""
        ending = Ending.CONTINUE if self.messages[-1].role == "assistant" else Ending.NEW_TURN
        return Conversation(tuple(in_prompt_form(self.messages)), self._tool_use.shown, ending, self.variables)

    @property
    def is_empty(self) -> bool:
        """See `_GenerationBody.is_empty`."""
        return not self.messages


class OllamaGenerateBody(_GenerationBody):
    """Body of `POST /api/generate`."""

    prompt: str = Field("", description="a string")
    system: Annotated[str, Meaning("A system message before the prompt.")] = Field("", description="a string")
    raw: Annotated[bool, Meaning("Whether the prompt is a text for the model without a template.")] = Field(
        False, description="true or false"
    )
    suffix: Annotated[
        str, Meaning("Text after the answer, which fills in the middle. The model must have tokens for that.")
    ] = Field("", description="a string")
    template: Annotated[Literal[""], Meaning("A template, which is not supported.")] = Field(
        "", description="missing or empty: the model's own template is used; raw: true uses none"
    )
    context: Annotated[Nothing, Meaning("Earlier tokens, which are not supported.")] = Field(
        default_factory=list, description="missing or empty: send earlier messages to /api/chat"
    )
    images: Annotated[Nothing, Meaning("Images, which are not supported.")] = Field(
        default_factory=list, description="missing or empty: only text is supported"
    )

    def to_prompt(self) -> Conversation | RawText:
        """Return the prompt."""
        if self.raw or self.suffix:
            return RawText(self.prompt, self.suffix)
        system = [Message(role="system", content=self.system)] if self.system else []
        return conversation([*system, Message(role="user", content=self.prompt)], variables=self.variables)

    @property
    def is_empty(self) -> bool:
        """See `_GenerationBody.is_empty`."""
        return not self.prompt


OllamaBody = OllamaChatBody | OllamaGenerateBody


class _VectorBody(_ModelBody):
    options: Annotated[
        dict[str, Any] | None, IGNORED, Meaning("Accepted and ignored: none of them changes a vector.")
    ] = Field(None, description="an object")
    keep_alive: Annotated[
        str | int | float | None, IGNORED, Meaning("Accepted and ignored: the server decides which models stay loaded.")
    ] = Field(None, description="a duration")


class OllamaEmbedBody(_VectorBody):
    """Body of `POST /api/embed`."""

    input: Annotated[
        str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MAX_INPUTS), FIRST_ERROR],
        Meaning("Each text gets a vector."),
    ] = Field("", description=f"a string, or a list of at most {MAX_INPUTS} non-empty strings")
    truncate: Annotated[bool, Meaning("Whether texts with too many tokens are cut; otherwise they are an error.")] = (
        Field(True, description="true or false")
    )
    dimensions: int | None = Field(None, ge=1, description="a whole number from 1 to the length of the model's vectors")

    def to_params(self) -> EmbedParams:
        """Return the parameters of the job."""
        inputs = filter(None, [self.input]) if isinstance(self.input, str) else self.input
        return EmbedParams(tuple(inputs), dimensions=self.dimensions, truncate=self.truncate)


class OllamaEmbeddingsBody(_VectorBody):
    """Body of `POST /api/embeddings`."""

    prompt: str = Field("", description="a string")

    def to_params(self) -> EmbedParams:
        """Return the parameters of the job."""
        return EmbedParams((self.prompt,), truncate=True)
