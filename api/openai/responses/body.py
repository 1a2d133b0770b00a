"""The body of `POST /v1/responses`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from api.openai.responses.tools import FunctionCallItem, FunctionCallOutput, ResponseToolFields
from api.openai.sampling_body import OpenAIBody
from api.openai.tools.use import ToolUse, tool_use
from api.schemas.grammar import SCHEMA_NAME, Schema, only_if_json_schema, schema_grammar
from api.schemas.ignored import IGNORED
from api.schemas.job_options import RequestOptions
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, MessageFields, prompt_message
from api.schemas.metadata import METADATA, Metadata
from api.schemas.sampling import MAX_NEW_TOKENS, MAX_SEED
from api.schemas.strict import FIRST_ERROR, Strict
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.prompts import Conversation
from common.jobs.prompts import Message as PromptMessage
from common.jobs.sampling import Grammar, GrammarKind, SamplingParams


def _kind(item: Any) -> str:
    """Return the tag of an input item, as it was sent or as it was read; a message needs no type."""
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return {"function_call": "Call", "function_call_output": "Output"}.get(str(kind), "Message")


class InputMessage(MessageFields):
    """A message. A message of an earlier response may be sent back unchanged."""

    role: Literal["system", "developer", "user", "assistant"]
    status: Annotated[Literal["in_progress", "completed", "incomplete"] | None, IGNORED] = None


InputItem = Annotated[
    Annotated[InputMessage, Tag("Message")]
    | Annotated[FunctionCallItem, Tag("Call")]
    | Annotated[FunctionCallOutput, Tag("Output")],
    Discriminator(_kind),
]


class TextFormat(Strict):
    """`text.format`, with the fields of a `JsonSchema` if its type is "json_schema"."""

    model_config = ConfigDict(json_schema_extra=only_if_json_schema("name", "schema"))

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(None, pattern=SCHEMA_NAME)
    description: str | None = None
    definition: Schema | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_schema_if_required(self) -> TextFormat:
        needs = self.type == "json_schema"
        if needs != (self.definition is not None) or needs != (self.name is not None):
            raise ValueError('must have a name and a schema if, and only if, its type is "json_schema"')
        return self

    @property
    def grammar(self) -> Grammar | None:
        """The grammar for the worker; None if any answer is allowed."""
        if self.definition is not None:
            return schema_grammar(self.definition)
        return Grammar(GrammarKind.JSON_OBJECT) if self.type == "json_object" else None


class TextOptions(Strict):
    """`text`."""

    format: TextFormat = TextFormat(type="text")
    verbosity: Annotated[str | None, IGNORED] = None


class ResponseBody(OpenAIBody, ResponseToolFields, RequestOptions):
    """OpenAI's fields and the job options (`RequestOptions`). Without a limit the answer may fill the context."""

    input: Annotated[
        Annotated[str, Field(min_length=1)]
        | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_MESSAGES), FIRST_ERROR],
        Meaning("The input: a text, or the conversation so far."),
    ] = Field(description=f"a non-empty string or a non-empty list of at most {MAX_MESSAGES} messages and calls")
    instructions: Annotated[str | None, Meaning("A system message before the input.")] = Field(
        None, description="a string"
    )
    max_output_tokens: Annotated[
        int | None, Meaning("Maximum number of tokens of the answer; if missing, the answer may fill the context.")
    ] = Field(None, ge=1, le=MAX_NEW_TOKENS, description=f"an integer from 1 to {MAX_NEW_TOKENS}")
    text: Annotated[TextOptions, Meaning("The form that the answer must have, such as a JSON schema.")] = Field(
        TextOptions(), description="an object with a format"
    )
    metadata: Annotated[Metadata, Meaning("Stored with the response and returned with it.")] = Field(
        default_factory=dict, description=METADATA
    )
    user: Annotated[str | None, Meaning("For the client's own use; returned with the response.")] = Field(
        None, description="a string"
    )
    background: Annotated[
        bool, Meaning("Whether to respond immediately, while the response is generated in the background.")
    ] = Field(False, description="true or false")
    store: Annotated[bool, Meaning("Whether the response can be fetched by its id later.")] = Field(
        True, description="true or false"
    )

    @model_validator(mode="after")
    def _can_be_found_again(self) -> ResponseBody:
        if self.background and not self.store:
            raise InvalidRequest(
                "store must be true if background is true; otherwise the response could not be found", param="store"
            )
        return self

    def to_params(self) -> GenerateParams:
        """Return the generation; its notes are the request's fields that the response object repeats."""
        use = self._tool_use
        notes = self._notes() | (self.tools_said_back() if use.can_call else {})
        return GenerateParams(self._prompt(use.shown), self._sampling(use.grammar), {"response": notes})

    @property
    def _tool_use(self) -> ToolUse:
        several = self.parallel_tool_calls is not False
        return tool_use(self.tools, self.chosen, self.text.format.grammar, several=several)

    def _prompt(self, tools: Sequence[dict[str, Any]]) -> Conversation:
        first = [] if self.instructions is None else [{"role": "system", "content": self.instructions}]
        given = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else _messages(self.input)
        return Conversation((*first, *given), tuple(tools))

    def _sampling(self, grammar: Grammar | None) -> SamplingParams:
        return SamplingParams(
            seed=secrets.randbelow(MAX_SEED),
            max_new_tokens=self.max_output_tokens or MAX_NEW_TOKENS,
            temperature=self.temperature,
            top_p=self.usable_top_p,
            grammar=grammar,
        )

    def _notes(self) -> dict[str, Any]:
        repeated = {"model", "instructions", "max_output_tokens", "temperature", "top_p", "metadata", "user"}
        kept = self.model_dump(include=repeated | {"background", "store"})
        return kept | {"text": self.text.model_dump(by_alias=True, exclude_none=True)}


def _messages(items: Sequence[InputItem]) -> list[PromptMessage]:
    """Return the messages of the prompt; adjacent calls belong to one message, with the text before them."""
    written: list[PromptMessage] = []
    for item in items:
        if isinstance(item, FunctionCallItem):
            _add_call(written, item)
        else:
            written.append(prompt_message(item, item.role) if isinstance(item, InputMessage) else item.to_prompt())
    return written


def _add_call(written: list[PromptMessage], call: FunctionCallItem) -> None:
    if not written or written[-1]["role"] != "assistant":
        written.append({"role": "assistant", "content": ""})
    written[-1]["tool_calls"] = [*written[-1].get("tool_calls", ()), call.to_prompt()]
