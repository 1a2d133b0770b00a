"""The bodies of vLLM's routes outside of `/v1`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from api.schemas.chat_ending import ChatEnding
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, Message, conversation
from api.schemas.response_model import Count, ResponseModel
from api.schemas.strict import FIRST_ERROR, Strict
from api.schemas.template_variables import TemplateVariables
from api.schemas.tokens import MAX_TOKEN_ID, TokenId
from common.adapters.names import DEFAULT_ALIAS
from common.errors import InvalidRequest
from common.jobs.prompts import Prompt, RawText, TokenIds


class _TokensBody(Strict):
    model: str = Field(DEFAULT_ALIAS, min_length=1, description="the name of a model that GET /v1/models lists")


class VllmTokenizeBody(_TokensBody, ChatEnding, TemplateVariables):
    """Body of `POST /tokenize`: a text, or the messages of a chat."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]})

    prompt: str | None = Field(None, min_length=1, description="a non-empty string, as of POST /v1/completions")
    messages: Annotated[list[Message], FIRST_ERROR] | None = Field(
        None,
        min_length=1,
        max_length=MAX_MESSAGES,
        description=f"a non-empty list of at most {MAX_MESSAGES} messages, as of POST /v1/chat/completions",
    )
    add_special_tokens: Annotated[
        Literal[True], Meaning("The tokens that the tokenizer adds around a text are always included.")
    ] = Field(True, description="true")
    return_token_strs: Annotated[bool, Meaning("Whether to return the text of each token, too.")] = Field(
        False, description="true or false"
    )

    @model_validator(mode="after")
    def _has_one_prompt(self) -> VllmTokenizeBody:
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("The body must have either prompt or messages", param="prompt")
        return self

    def to_prompt(self) -> Prompt:
        """Return the prompt."""
        if self.messages is None:
            return RawText(self.prompt or "")
        return conversation(self.messages, self.ending, variables=self.chat_template_kwargs)


class VllmDetokenizeBody(_TokensBody):
    """Body of `POST /detokenize`."""

    tokens: Annotated[Annotated[list[TokenId], FIRST_ERROR], Meaning("Tokens of the model.")] = Field(
        min_length=1, description=f"a non-empty list of token ids from 0 to {MAX_TOKEN_ID}"
    )

    def to_prompt(self) -> Prompt:
        """Return the tokens as a prompt."""
        return TokenIds(tuple(self.tokens))


class VllmTokens(ResponseModel):
    """The tokens of a prompt."""

    count: Count
    max_model_len: Count
    tokens: list[Count]
    token_strs: list[str] | None


class VllmText(ResponseModel):
    """The text of tokens."""

    prompt: str


class Version(ResponseModel):
    """The server's version."""

    version: str
