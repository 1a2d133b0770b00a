"""The bodies of requests and responses about conversations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, model_validator

from api.schemas.conversation_place import MessageId
from api.schemas.meaning import Meaning
from api.schemas.messages import ToolCall
from api.schemas.metadata import METADATA, Metadata
from api.schemas.prompt_body import MAX_NAME_CHARS
from api.schemas.response_model import Count, ResponseModel, Time
from api.schemas.sampling import MAX_NEW_TOKENS, MAX_SEED, SamplingFields
from api.schemas.strict import FIRST_ERROR, Strict
from common import ids
from common.errors import InvalidRequest

MAX_TITLE_CHARS = 200
MAX_SYSTEM_CHARS = 65_536
VERSION = 1  # of an exported conversation

Role = Literal["system", "user", "assistant", "tool"]
Rating = Literal["up", "down"]
Status = Literal["in_progress", "completed", "incomplete"]
ROLE = '"system", "user", "assistant" or "tool"'
RATING = '"up", "down" or null'
MESSAGE_ID = "the id of a message of the conversation, or null"


class ConversationSettings(SamplingFields):
    """The sampling parameters that a client wants to use in a conversation; only those that it sets are kept."""

    max_new_tokens: int | None = Field(None, ge=1, le=MAX_NEW_TOKENS)
    min_new_tokens: int | None = Field(None, ge=0, le=MAX_NEW_TOKENS)
    do_sample: bool | None = None
    seed: int | None = Field(None, ge=0, le=MAX_SEED)


class AboutConversation(Strict):
    """What a client may set of a conversation."""

    title: Annotated[str | None, Meaning("For lists.")] = Field(
        None, max_length=MAX_TITLE_CHARS, description=f"a string of at most {MAX_TITLE_CHARS} characters"
    )
    system_prompt: Annotated[str | None, Meaning("What the model is told before the first message.")] = Field(
        None, max_length=MAX_SYSTEM_CHARS, description=f"a string of at most {MAX_SYSTEM_CHARS} characters"
    )
    model: Annotated[str | None, Meaning("The model that the client wants to use next.")] = Field(
        None, max_length=MAX_NAME_CHARS, description=f"the name of a model, of at most {MAX_NAME_CHARS} characters"
    )
    settings: Annotated[
        ConversationSettings | None, Meaning("The sampling parameters that the client wants to use.")
    ] = Field(None, description="an object of sampling parameters, as in a generation")
    metadata: Annotated[Metadata | None, Meaning("For the client's own use.")] = Field(None, description=METADATA)


class ConversationBody(AboutConversation):
    """A new conversation."""


class ConversationChange(AboutConversation):
    """Changes of a conversation; fields that are missing or null stay as they are."""

    leaf_id: Annotated[MessageId | None, Meaning("The message to show last, with all before it: chooses a branch.")] = (
        Field(None, description="the id of a message of the conversation")
    )


class Usage(Strict):
    """The numbers of tokens of an answer."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class MessageFields(Strict):
    """What a client writes into a message."""

    role: Annotated[Role, Meaning("Whose message it is.")] = Field(description=ROLE)
    content: Annotated[str, Meaning("The text; empty for calls of tools, and for an answer that a job writes.")] = (
        Field("", description="a string")
    )
    name: Annotated[str | None, Meaning("The speaker's name.")] = Field(
        None, min_length=1, max_length=64, description="a string of 1 to 64 characters"
    )
    tool_calls: Annotated[
        Annotated[list[ToolCall], FIRST_ERROR], Meaning("The assistant's calls of tools, in OpenAI's form.")
    ] = Field(default_factory=list, max_length=128, description="a list of calls of tools")
    tool_call_id: Annotated[str | None, Meaning("The call of which this is the result, for the role `tool`.")] = Field(
        None, min_length=1, max_length=200, description="the id of a call"
    )
    model: Annotated[str | None, Meaning("The model that has given the answer.")] = Field(
        None, max_length=MAX_NAME_CHARS, description=f"the name of a model, of at most {MAX_NAME_CHARS} characters"
    )
    usage: Annotated[Usage | None, Meaning("The numbers of tokens of an answer.")] = Field(
        None, description="an object with prompt_tokens and completion_tokens"
    )
    rating: Annotated[Rating | None, Meaning("Whether the answer is good.")] = Field(None, description=RATING)

    @model_validator(mode="after")
    def _fits_its_role(self) -> MessageFields:
        if self.role != "assistant" and self.tool_calls:
            raise InvalidRequest("tool_calls need the role assistant", param="tool_calls")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise InvalidRequest("tool_call_id is for the role tool, which needs it", param="tool_call_id")
        return self


class MessageBody(MessageFields):
    """A new message, which is then shown last."""

    parent_id: Annotated[
        MessageId | None,
        Meaning("The message that it follows; null: none. If it is missing, the message that is shown last."),
    ] = Field(None, description=MESSAGE_ID)
    job_id: Annotated[
        str | None,
        Meaning("A generation of yours that writes the message, or has written it. Its content must be empty."),
    ] = Field(None, pattern=f"^{ids.UUID}$", description="the id of a job")

    @model_validator(mode="after")
    def _has_one_author(self) -> MessageBody:
        if self.job_id is not None and (self.role != "assistant" or self.content or self.tool_calls):
            raise InvalidRequest("job_id is for an assistant's message without content", param="job_id")
        return self


class MessageChange(Strict):
    """Changes of a message; fields that are missing stay as they are."""

    content: Annotated[str | None, Meaning("The new text.")] = Field(None, description="a string")
    rating: Annotated[Rating | None, Meaning("Whether the answer is good; null deletes the rating.")] = Field(
        None, description=RATING
    )


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


Moment = Annotated[str, AfterValidator(_moment), Field(json_schema_extra={"format": "date-time"})]


class ImportedMessage(MessageFields):
    """A message of an exported conversation. It becomes a message without a job."""

    id: MessageId
    parent_id: MessageId | None = None
    created_at: Moment | None = None
    job_id: str | None = None
    status: Status | None = None
    finish_reason: str | None = None
    tool_form: str | None = None
    error: dict[str, Any] | None = None
    is_edited: bool = False

    @property
    def created_ms(self) -> int | None:
        """When it was created, in ms since the epoch."""
        return None if self.created_at is None else round(datetime.fromisoformat(self.created_at).timestamp() * 1000)


class ImportBody(AboutConversation):
    """A conversation as it was exported."""

    version: Annotated[Literal[1], Meaning("The version of the export's form.")] = Field(description="1")
    messages: Annotated[
        Annotated[list[ImportedMessage], FIRST_ERROR], Meaning("The messages; a message comes before its replies.")
    ] = Field(description="a list of messages")
    leaf_id: Annotated[MessageId | None, Meaning("The message that is shown last.")] = Field(
        None, description=MESSAGE_ID
    )
    id: Annotated[str | None, Meaning("Ignored: the conversation gets a new id.")] = Field(None, description="a string")
    created_at: Annotated[Moment | None, Meaning("Ignored.")] = Field(None, description="a time")
    updated_at: Annotated[Moment | None, Meaning("Ignored.")] = Field(None, description="a time")
    num_messages: Annotated[int | None, Meaning("Ignored.")] = Field(None, description="a number")
    bytes: Annotated[int | None, Meaning("Ignored.")] = Field(None, description="a number")

    @model_validator(mode="after")
    def _is_a_tree(self) -> ImportBody:
        known: set[str] = set()
        for index, one in enumerate(self.messages):
            if one.id in known:
                raise InvalidRequest("Two messages have this id", param=f"messages[{index}].id")
            if one.parent_id is not None and one.parent_id not in known:
                raise InvalidRequest("There is no such message before it", param=f"messages[{index}].parent_id")
            known.add(one.id)
        if self.leaf_id is not None and self.leaf_id not in known:
            raise InvalidRequest("leaf_id must be the id of one of the messages", param="leaf_id")
        return self


class ShownConversation(ResponseModel):
    """A conversation, without its messages."""

    id: str
    title: str
    system_prompt: str
    model: Annotated[str | None, Field(description="null: the default")]
    settings: Annotated[dict[str, Any], Field(description="the sampling parameters that its client wants to use")]
    metadata: dict[str, str]
    leaf_id: Annotated[str | None, Field(description="the message that is shown last, with all before it")]
    created_at: Time
    updated_at: Time
    num_messages: Count
    bytes: Annotated[Count, Field(description="the approximate size of everything in it")]


class Excerpt(ResponseModel):
    """Where a search has found its text: in a message, or in the title if `message_id` is null."""

    message_id: str | None
    excerpt: str


class ListedConversation(ShownConversation):
    """A conversation in a list; `match` is there after a search."""

    match: NotRequired[Excerpt]


class ConversationList(ResponseModel):
    """A page of the caller's conversations, the latest change first."""

    success: Literal[True]
    conversations: list[ListedConversation]
    last_id: Annotated[str | None, Field(description="use it as `after` to request the next page")]
    has_more: bool


class AnswerFailure(ResponseModel):
    """Why a job has failed."""

    code: str
    message: str


class TokenUsage(ResponseModel):
    """The numbers of tokens of an answer."""

    prompt_tokens: Count
    completion_tokens: Count


class ShownMessage(ResponseModel):
    """A message of a conversation."""

    id: str
    parent_id: Annotated[str | None, Field(description="the message before it; null: it is a first message")]
    role: Role
    content: Annotated[str, Field(description="empty while a job writes it: read the job's stream then")]
    name: str | None
    tool_calls: list[dict[str, Any]]
    tool_call_id: str | None
    tool_form: Annotated[str | None, Field(description="the form of calls of tools in `content`, if it can have any")]
    created_at: Time
    model: Annotated[str | None, Field(description="which has given the answer")]
    job_id: Annotated[str | None, Field(description="the job that writes it, or has written it")]
    status: Annotated[Status, Field(description="`incomplete`: the job has failed, was cancelled or is lost")]
    finish_reason: str | None
    error: AnswerFailure | None
    usage: TokenUsage | None
    rating: Rating | None
    is_edited: Annotated[bool, Field(description="whether `content` replaces the answer of the job")]


class ConversationThread(ShownConversation):
    """A conversation with all of its messages, in the order in which they were added."""

    success: Literal[True]
    messages: list[ShownMessage]


class ExportedConversation(ShownConversation):
    """A conversation as it is exported, and can be imported."""

    version: Literal[1]
    messages: list[ShownMessage]


class ConversationSaved(ShownConversation):
    """A conversation was created or changed."""

    success: Literal[True]


class MessageSaved(ShownMessage):
    """A message was appended or changed."""

    success: Literal[True]


class ConversationDeleted(ResponseModel):
    """A conversation was deleted."""

    success: Literal[True]
    id: str


class MessagesDeleted(ResponseModel):
    """A message was deleted, with `deleted` messages in all."""

    success: Literal[True]
    id: str
    deleted: Count
    leaf_id: str | None
