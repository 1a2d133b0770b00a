"""The bodies of requests under `/v1/messages`."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.schemas.anthropic.blocks import Blocks, Content, misplaced, said_by_assistant, said_by_user, text_of
from api.schemas.anthropic.tools import AnthropicToolFields
from api.schemas.grammar import SCHEMA_BOUNDS, Schema, schema_grammar
from api.schemas.ignored import IGNORED
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES
from api.schemas.reasoning import thinking_variables
from api.schemas.sampling import MAX_NEW_TOKENS, MAX_SEED
from api.schemas.strict import FIRST_ERROR, Strict
from api.schemas.tool_use import ToolUse, tool_use
from common.adapters.names import DEFAULT_ALIAS
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.prompts import Conversation, Ending, Message
from common.jobs.sampling import Grammar, SamplingParams

LEAST_TOP_P = 1e-9  # keeps only the most probable token, which is the meaning of 0


class AnthropicMessage(Strict):
    """A message of the conversation."""

    role: Literal["user", "assistant"]
    content: Blocks

    @model_validator(mode="after")
    def _has_its_own_blocks(self) -> AnthropicMessage:
        if kind := misplaced(self.role, self.content):
            raise ValueError(f"must not have a block of the type {kind!r}, because its role is {self.role!r}")
        return self

    @property
    def has_calls(self) -> bool:
        """Whether it calls tools."""
        return any("tool_calls" in written for written in self.to_prompt())

    def to_prompt(self) -> list[Message]:
        """Return the messages for the prompt."""
        return said_by_user(self.content) if self.role == "user" else said_by_assistant(self.content)


class OutputFormat(Strict):
    """`output_config.format`."""

    type: Literal["json_schema"]
    definition: Schema = Field(alias="schema")


class OutputConfig(Strict):
    """`output_config`."""

    format: OutputFormat | None = None
    effort: Annotated[str | None, IGNORED] = None


class Thinking(Strict):
    """`thinking`: whether the model reasons before it answers, and the answer has its reasoning."""

    type: Literal["disabled", "enabled", "adaptive"]
    budget_tokens: Annotated[int | None, IGNORED] = None
    display: Literal["summarized", "omitted"] | None = None


class CountTokensBody(AnthropicToolFields):
    """Body of `POST /v1/messages/count_tokens`."""

    model: str = Field(DEFAULT_ALIAS, min_length=1, description="the name of a model that GET /v1/models lists")
    messages: Annotated[list[AnthropicMessage], FIRST_ERROR] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        description=f"a non-empty list of at most {MAX_MESSAGES} messages, each an object",
    )
    system: Content | None = Field(None, description="a string or a non-empty list of text blocks")
    thinking: Annotated[
        Thinking | None,
        Meaning("Whether the model reasons first, if its chat template can do so; it is off if missing."),
    ] = Field(None, description="an object with type and budget_tokens")
    cache_control: Annotated[
        dict[str, Any] | None, IGNORED, Meaning("Accepted and ignored: known beginnings are always shared.")
    ] = Field(None, description="an object")

    @model_validator(mode="after")
    def _has_results_of_its_calls(self) -> CountTokensBody:
        if self.messages[-1].has_calls:
            raise InvalidRequest("messages must go on with the results of the last calls", param="messages")
        return self

    def to_prompt(self) -> Conversation:
        """Return the conversation; the answer continues a last message of the assistant."""
        return self._prompt(self.tool_use(None))

    def tool_use(self, content: Grammar | None) -> ToolUse:
        """Return the use of tools; `content` is the grammar of an answer without calls."""
        return tool_use(self.functions, self.chosen, content, several=self.allows_several_calls)

    def _prompt(self, use: ToolUse) -> Conversation:
        system = [] if self.system is None else [{"role": "system", "content": text_of(self.system)}]
        said = [written for one in self.messages for written in one.to_prompt()]
        is_begun = self.messages[-1].role == "assistant"
        ending = Ending.CONTINUE if is_begun else Ending.NEW_TURN
        return Conversation((*system, *said), use.shown, ending, thinking_variables(is_on=self._thinks))

    @property
    def _thinks(self) -> bool:
        return self.thinking is not None and self.thinking.type != "disabled"

    @property
    def shows_reasoning(self) -> bool:
        """Whether the answer has the model's reasoning."""
        return self._thinks and self.thinking is not None and self.thinking.display != "omitted"


class MessagesBody(CountTokensBody):
    """Body of `POST /v1/messages`."""

    max_tokens: int = Field(ge=1, le=MAX_NEW_TOKENS, description=f"an integer from 1 to {MAX_NEW_TOKENS}")
    temperature: float = Field(1.0, ge=0, le=2, description="a number from 0 to 2")
    top_p: float = Field(1.0, ge=0, le=1, description="a number from 0 to 1")
    top_k: int = Field(0, ge=0, le=1_000_000, description="an integer from 0 (off) to 1000000")
    stop_sequences: Annotated[list[str], Field(max_length=8), FIRST_ERROR, Meaning("Anthropic's name for `stop`.")] = (
        Field(default_factory=list, description="a list of at most 8 strings")
    )
    stream: bool = Field(False, description="true or false")
    output_config: Annotated[OutputConfig | None, Meaning("The form that the answer must have.")] = Field(
        None, description=f"an object with a format, which has a JSON schema {SCHEMA_BOUNDS}"
    )
    metadata: Annotated[dict[str, Any] | None, IGNORED] = Field(None, description="an object")
    service_tier: Annotated[str | None, IGNORED] = Field(None, description="a string")

    @property
    def can_call(self) -> bool:
        """Whether the answer may call tools."""
        return bool(self.tools) and self.chosen.mode != "none"

    def to_params(self) -> GenerateParams:
        """Return the generation."""
        form = None if self.output_config is None else self.output_config.format
        use = self.tool_use(None if form is None else schema_grammar(form.definition))
        sampling = SamplingParams(
            seed=secrets.randbelow(MAX_SEED),
            max_new_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=max(self.top_p, LEAST_TOP_P),
            top_k=self.top_k,
            stop=() if use.must_call else tuple(filter(None, self.stop_sequences)),
            grammar=use.grammar,
        )
        return GenerateParams(self._prompt(use), sampling, tells_prompt_ids=self.stream, splits_reasoning=True)
