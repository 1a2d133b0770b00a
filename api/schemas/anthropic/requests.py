"""The bodies of requests under `/v1/messages`."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import Field

from api.schemas.grammar import SCHEMA_BOUNDS, Schema, schema_grammar
from api.schemas.ignored import IGNORED
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, Message, conversation
from api.schemas.sampling import MAX_NEW_TOKENS, MAX_SEED
from api.schemas.strict import FIRST_ERROR, Strict
from common.adapters.names import DEFAULT_ALIAS
from common.jobs.job import GenerateParams
from common.jobs.prompts import Conversation, Ending
from common.jobs.sampling import SamplingParams

LEAST_TOP_P = 1e-9  # keeps only the most probable token, which is the meaning of 0


class TextBlock(Strict):
    """A text of a message. A block of an earlier answer may be sent back unchanged."""

    type: Literal["text"]
    text: str
    cache_control: Annotated[dict[str, Any] | None, IGNORED] = None
    citations: Annotated[list[Any] | None, IGNORED] = None


Content = str | Annotated[list[TextBlock], Field(min_length=1), FIRST_ERROR]


class AnthropicMessage(Strict):
    """A message of the conversation."""

    role: Literal["user", "assistant"]
    content: Content

    def to_message(self) -> Message:
        """Return the message as the other APIs have it."""
        return Message(role=self.role, content=_text(self.content))


class OutputFormat(Strict):
    """`output_config.format`."""

    type: Literal["json_schema"]
    definition: Schema = Field(alias="schema")


class OutputConfig(Strict):
    """`output_config`."""

    format: OutputFormat | None = None
    effort: Annotated[str | None, IGNORED] = None


class NoThinking(Strict):
    """`thinking`, turned off."""

    type: Literal["disabled"]


class CountTokensBody(Strict):
    """Body of `POST /v1/messages/count_tokens`."""

    model: str = Field(DEFAULT_ALIAS, min_length=1, description="the name of a model that GET /v1/models lists")
    messages: Annotated[list[AnthropicMessage], FIRST_ERROR] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        description=f"a non-empty list of at most {MAX_MESSAGES} messages, each an object",
    )
    system: Content | None = Field(None, description="a string or a non-empty list of text blocks")
    thinking: Annotated[
        NoThinking | None, IGNORED, Meaning("Accepted and ignored: the models here do not think first.")
    ] = Field(None, description='{"type": "disabled"}')
    cache_control: Annotated[
        dict[str, Any] | None, IGNORED, Meaning("Accepted and ignored: known beginnings are always shared.")
    ] = Field(None, description="an object")

    def to_prompt(self) -> Conversation:
        """Return the conversation; the answer continues a last message of the assistant."""
        system = [] if self.system is None else [Message(role="system", content=_text(self.system))]
        is_begun = self.messages[-1].role == "assistant"
        messages = [*system, *(one.to_message() for one in self.messages)]
        return conversation(messages, Ending.CONTINUE if is_begun else Ending.NEW_TURN)


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

    def to_params(self) -> GenerateParams:
        """Return the generation."""
        form = None if self.output_config is None else self.output_config.format
        sampling = SamplingParams(
            seed=secrets.randbelow(MAX_SEED),
            max_new_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=max(self.top_p, LEAST_TOP_P),
            top_k=self.top_k,
            stop=tuple(filter(None, self.stop_sequences)),
            grammar=None if form is None else schema_grammar(form.definition),
        )
        return GenerateParams(self.to_prompt(), sampling)


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)
