"""The bodies of requests under `/api`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Field

from api.schemas.grammar import SCHEMA_BOUNDS, Schema, schema_grammar
from api.schemas.ignored import IGNORED
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, Message, conversation
from api.schemas.ollama.options import OllamaOptions
from api.schemas.strict import FIRST_ERROR, Strict
from common.jobs.job import GenerateParams
from common.jobs.prompts import Conversation, Ending, Prompt, RawText
from common.jobs.sampling import Grammar, GrammarKind

LATEST = ":latest"  # the tag that Ollama's clients add to a name without one

Nothing = Annotated[list[Any], Field(max_length=0)]


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
        Literal[False] | None,
        IGNORED,
        Meaning("Accepted and ignored: the models here do not think first."),
    ] = Field(None, description="false")

    @property
    def grammar(self) -> Grammar | None:
        """The grammar for the worker; None if any answer is allowed."""
        if isinstance(self.format, dict):
            return schema_grammar(self.format)
        return Grammar(GrammarKind.JSON_OBJECT) if self.format == "json" else None

    def to_params(self) -> GenerateParams:
        """Return the generation."""
        return GenerateParams(self.to_prompt(), self.options.sampling(self.grammar))

    @abstractmethod
    def to_prompt(self) -> Prompt:
        """Return the prompt."""

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there is nothing to answer: the client only wants the model to be loaded."""


class OllamaMessage(Message):
    """A message of a chat. An answer may be sent back unchanged."""

    content: str = Field("", description="a string")
    images: Nothing = Field(default_factory=list, description="missing or empty: only text is supported")
    tool_calls: Nothing = Field(default_factory=list, description="missing or empty")
    thinking: Annotated[str | None, IGNORED] = None


class OllamaChatBody(_GenerationBody):
    """Body of `POST /api/chat`."""

    messages: Annotated[list[OllamaMessage], FIRST_ERROR] = Field(
        default_factory=list,
        max_length=MAX_MESSAGES,
        description=f"a list of at most {MAX_MESSAGES} messages, each an object",
    )
    tools: Annotated[Nothing, Meaning("Not supported here yet.")] = Field(
        default_factory=list, description="missing or empty"
    )

    def to_prompt(self) -> Conversation:
        """Return the conversation; the answer continues a last message of the assistant."""
        is_begun = self.messages[-1].role == "assistant"
        return conversation(self.messages, Ending.CONTINUE if is_begun else Ending.NEW_TURN)

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
    suffix: Annotated[Literal[""], Meaning("Text after the answer, which is not supported.")] = Field(
        "", description="missing or empty: the models here cannot fill in the middle"
    )
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
        if self.raw:
            return RawText(self.prompt)
        system = [Message(role="system", content=self.system)] if self.system else []
        return conversation([*system, Message(role="user", content=self.prompt)])

    @property
    def is_empty(self) -> bool:
        """See `_GenerationBody.is_empty`."""
        return not self.prompt


OllamaBody = OllamaChatBody | OllamaGenerateBody
