"""The bodies of vLLM's routes outside of `/v1`."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, Required

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator
from typing_extensions import TypedDict

from api.schemas.chat_ending import ChatEnding
from api.schemas.errors import OpenAIError
from api.schemas.ignored import IGNORED
from api.schemas.meaning import Meaning
from api.schemas.messages import MAX_MESSAGES, Message, conversation
from api.schemas.openai.chat import ChatChunk, ChatCompletion
from api.schemas.openai.completions import Completion
from api.schemas.openai.embeddings import EmbeddingList
from api.schemas.response_model import Count, ResponseModel
from api.schemas.strict import FIRST_ERROR, Strict
from api.schemas.template_variables import TemplateVariables
from api.schemas.tokens import MAX_TOKEN_ID, TokenId
from api.schemas.tool_use import tool_use
from api.schemas.tools import ALL_TOOLS, MAX_TOOLS, ChatTool, FunctionDefinition, check_choice
from common.adapters.names import DEFAULT_ALIAS
from common.errors import InvalidRequest
from common.jobs.prompts import Prompt, RawText, TokenIds

FORMS = ("prompt", "messages", "content")


class _TokensBody(Strict):
    model: str = Field(DEFAULT_ALIAS, min_length=1, description="the name of a model that GET /v1/models lists")


class VllmTokenizeBody(_TokensBody, ChatEnding, TemplateVariables):
    """Body of `POST /tokenize`: a text, or the messages of a chat, as vLLM's; or a text as llama.cpp's."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [one]} for one in FORMS]})

    prompt: str | None = Field(None, min_length=1, description="a non-empty string, as of POST /v1/completions")
    messages: Annotated[list[Message], FIRST_ERROR] | None = Field(
        None,
        min_length=1,
        max_length=MAX_MESSAGES,
        description=f"a non-empty list of at most {MAX_MESSAGES} messages, as of POST /v1/chat/completions",
    )
    tools: Annotated[list[ChatTool], FIRST_ERROR, Meaning("With `messages`: functions that the answer may call.")] = (
        Field(default_factory=list, max_length=MAX_TOOLS, description=f"a list of at most {MAX_TOOLS} tools")
    )
    add_special_tokens: Annotated[
        bool,
        Meaning(
            "Whether the tokens that the tokenizer adds around a text are included. A chat template writes its own."
        ),
    ] = Field(True, description="true or false")
    return_token_strs: Annotated[
        bool, Meaning("Whether to return the name that the vocabulary has for each token, too.")
    ] = Field(False, description="true or false")
    content: Annotated[str | None, Meaning("A text; llama.cpp's name for `prompt`. The answer is then its form.")] = (
        Field(None, description="a string")
    )
    add_special: Annotated[bool, Meaning("With `content`: as `add_special_tokens`, but off by default.")] = Field(
        False, description="true or false"
    )
    with_pieces: Annotated[bool, Meaning("With `content`: whether to return the text of each token, too.")] = Field(
        False, description="true or false"
    )
    parse_special: Annotated[
        bool | None, IGNORED, Meaning("Accepted and ignored: the name of a special token in a text is plain text.")
    ] = Field(None, description="true or false")

    @model_validator(mode="after")
    def _has_one_prompt(self) -> VllmTokenizeBody:
        if sum(getattr(self, one) is not None for one in FORMS) != 1:
            raise InvalidRequest("The body must have one of prompt, messages and content", param="prompt")
        return self

    @model_validator(mode="after")
    def _has_tools_in_a_chat(self) -> VllmTokenizeBody:
        if self.tools and self.messages is None:
            raise InvalidRequest("tools can only be used with messages", param="tools")
        check_choice(self._functions, ALL_TOOLS, "tools", "tools")
        return self

    @property
    def _functions(self) -> list[FunctionDefinition]:
        return [tool.function for tool in self.tools]

    def to_prompt(self) -> Prompt:
        """Return the prompt."""
        if self.content is not None:
            return RawText(self.content, is_bare=not self.add_special)
        if self.messages is None:
            return RawText(self.prompt or "", is_bare=not self.add_special_tokens)
        shown = tool_use(self._functions, ALL_TOOLS, None, several=True).shown
        return conversation(self.messages, self.ending, shown, self.chat_template_kwargs)


class VllmDetokenizeBody(_TokensBody):
    """Body of `POST /detokenize`."""

    tokens: Annotated[Annotated[list[TokenId], FIRST_ERROR], Meaning("Tokens of the model.")] = Field(
        description=f"a list of token ids from 0 to {MAX_TOKEN_ID}"
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
    content: NotRequired[
        Annotated[str, Field(description="the same for llama.cpp's clients: if the request names no model")]
    ]


class LlamaPiece(ResponseModel):
    """A token and its text."""

    id: Count
    piece: str


class LlamaTokens(ResponseModel):
    """The tokens of a text, if the request has `content`."""

    tokens: list[Count] | list[LlamaPiece]


class TokenizeAnswer(RootModel[VllmTokens | LlamaTokens]):
    """The tokens in the form of either server."""


class AddedToken(ResponseModel):
    """A token that was added to the vocabulary."""

    content: str
    special: bool


class TokenizerInfo(TypedDict, total=False):
    """Facts about the tokenizer, under the names in `tokenizer_config.json`; also its special tokens."""

    tokenizer_class: Required[str]
    chat_template: Required[str]
    vocab_size: Required[Count]
    model_max_length: Required[Annotated[Count, Field(description="maximum number of tokens of prompt and answer")]]
    bos_token: str
    eos_token: str
    pad_token: str
    unk_token: str
    added_tokens_decoder: dict[str, AddedToken]


class ServerLoad(ResponseModel):
    """The number of generations that wait or run."""

    server_load: Count


class InvocationAnswer(RootModel[ChatCompletion | Completion | EmbeddingList]):
    """The answer of the route that the body belongs to."""


class InvocationFrame(RootModel[ChatChunk | Completion | OpenAIError]):
    """The data of an event of a streamed answer."""


class InvocationBody(BaseModel):
    """The body of `POST /invocations`: that of a chat completion, a completion or a request for embeddings."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"anyOf": [{"required": [one]} for one in ("messages", "prompt", "input")]}
    )

    messages: Any = Field(None, description="of a chat completion, which then has the other fields, too")
    prompt: Any = Field(None, description="of a completion, likewise")
    input: Any = Field(None, description="of a request for embeddings, likewise")


class Version(ResponseModel):
    """The server's version."""

    version: str
