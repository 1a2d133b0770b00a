"""The bodies of tokenize and detokenize."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from api.schemas.generated import ModelUsed
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, Message, conversation
from api.schemas.prompt_body import PromptBody
from api.schemas.response_model import Count, JobId
from api.schemas.strict import FIRST_ERROR
from common.errors import InvalidRequest
from common.jobs import prompts
from common.jobs.prompts import Prompt, RawText, TokenIds

MAX_TOKEN_ID = 2**31 - 1
FORMS = ("prompt", "messages", "raw_text")

TokenId = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]


class TokenizeBody(PromptBody):
    """Body of `POST /slm/tokenize`: a prompt in one of the forms that generations accept."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [form]} for form in FORMS]})

    prompt: str | None = Field(
        None, pattern=r"\S", description="a non-blank string of valid Unicode, as of POST /slm/generate"
    )
    messages: Annotated[list[Message], FIRST_ERROR] | None = Field(
        None,
        min_length=1,
        max_length=MAX_MESSAGES,
        description=f"a non-empty list of at most {MAX_MESSAGES} messages, as of POST /v1/chat/completions",
    )
    raw_text: Annotated[str | None, Meaning("A text for the model without a template.")] = Field(
        None, min_length=1, description="a non-empty string of valid Unicode, as of POST /v1/completions"
    )

    @model_validator(mode="after")
    def _has_one_form(self) -> TokenizeBody:
        given = [name for name in FORMS if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidRequest(
                f"The body must have one of prompt, messages and raw_text; got {' and '.join(given) or 'none'}",
                param=given[1] if given else "prompt",
            )
        return self

    def to_params(self) -> dict[str, Any]:
        """Return the prompt in wire form."""
        return prompts.to_wire(self._prompt())

    def _prompt(self) -> Prompt:
        if self.messages is not None:
            return conversation(self.messages)
        return RawText(self.raw_text) if self.raw_text is not None else self.prompt or ""


class DetokenizeBody(PromptBody):
    """Body of `POST /slm/detokenize`."""

    ids: Annotated[Annotated[list[TokenId], FIRST_ERROR], Meaning("Tokens of the model.")] = Field(
        min_length=1, description="a non-empty list of token ids"
    )

    def to_params(self) -> dict[str, Any]:
        """Return the tokens as a prompt in wire form."""
        return prompts.to_wire(TokenIds(tuple(self.ids)))


class Tokens(ModelUsed):
    """A prompt as the model sees it."""

    success: bool
    text: Annotated[str, Field(description="the prompt as the model sees it")]
    tokens: Annotated[list[str], Field(description="the text of each token; U+FFFD replaces a part of a character")]
    ids: list[Count]
    count: Count
    context_length: Annotated[Count, Field(description="maximum number of tokens of prompt and answer together")]
    job_id: JobId
