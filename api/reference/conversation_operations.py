"""Describes the routes about conversations, by their endpoints."""

from __future__ import annotations

from api.openai.conversations.items import ITEM_ID
from api.openai.conversations.routes import ItemsBody, OpenAIConversationBody, OpenAIConversationChange
from api.reference import headers
from api.reference.operation import Operation, Parameter, RequestBody, SuccessResponse, Tag, simple
from api.reference.paging import LIMIT, after
from api.routes.conversations import DEFAULT_LIMIT, MAX_LIMIT
from api.schemas.conversations import (
    ConversationBody,
    ConversationChange,
    ConversationDeleted,
    ConversationList,
    ConversationSaved,
    ConversationThread,
    ExportedConversation,
    ImportBody,
    MessageBody,
    MessageChange,
    MessageSaved,
    MessagesDeleted,
)
from api.schemas.openai.conversations import ConversationObject, DeletedConversation, ItemList, ShownItem
from api.schemas.parsing import OPENAI, SLM_WITH_NULLS
from api.schemas.query import MAX_SEARCH_CHARS
from common import errors, ids

MARKDOWN = "text/markdown"
EXAMPLE_ID = headers.EXAMPLE_JOB
CONVERSATION_ID = Parameter(
    "path",
    "conversation_id",
    {"type": "string", "pattern": f"^{ids.CONVERSATION_ID}$"},
    "The conversation's id.",
    f"conv_{EXAMPLE_ID}",
)
MESSAGE_ID = Parameter(
    "path",
    "message_id",
    {"type": "string", "pattern": f"^{ids.MESSAGE_ID}$"},
    "The message's id.",
    f"msg_{EXAMPLE_ID}",
)
ITEM = Parameter(
    "path", "item_id", {"type": "string", "pattern": f"^{ITEM_ID}$"}, "The item's id.", f"msg_{EXAMPLE_ID}"
)
PAGE = (
    Parameter(
        "query",
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "Maximum number of conversations to list.",
        10,
    ),
    Parameter(
        "query",
        "after",
        {"type": "string", "pattern": f"^{ids.CONVERSATION_ID}$"},
        "The `last_id` of the previous page.",
    ),
    Parameter(
        "query",
        "q",
        {"type": "string", "minLength": 1, "maxLength": MAX_SEARCH_CHARS},
        "List only conversations with this text in their title or a message. A page of a search can be short, or "
        "empty: continue while `has_more` is true.",
    ),
)
FORMAT = Parameter(
    "query", "format", {"type": "string", "enum": ["json", "markdown"], "default": "json"}, "The form of the export."
)
KEEP_REPLIES = Parameter(
    "query",
    "keep_replies",
    {"type": "string", "enum": ["true", "false"], "default": "false"},
    "Whether the messages that follow it are kept, and follow the message before it.",
)
WRITING = (errors.RedisFull, errors.QuotaExceeded)
TITLED = {"title": "Birds", "system_prompt": "Answer in one sentence.", "settings": {"temperature": 0.5}}
EXPORT = {
    "version": 1,
    "title": "Birds",
    "messages": [
        {"id": f"msg_{EXAMPLE_ID}", "parent_id": None, "role": "user", "content": "Can penguins fly?"},
        {
            "id": f"msg_{EXAMPLE_ID[:-1]}c",
            "parent_id": f"msg_{EXAMPLE_ID}",
            "role": "assistant",
            "content": "No, they swim.",
        },
    ],
}

CONVERSATION_OPERATIONS = {
    "conversations.create": Operation(
        id="createConversation",
        tag=Tag.CONVERSATIONS,
        summary="Create an empty conversation",
        parameters=(headers.IDEMPOTENCY_KEY,),
        body=RequestBody(ConversationBody, TITLED, SLM_WITH_NULLS, is_required=False),
        responses=[SuccessResponse("The conversation.", ConversationSaved, status=201)],
        errors=WRITING,
    ),
    "conversations.list_conversations": simple(
        "listConversations",
        Tag.CONVERSATIONS,
        "List your conversations, or search them",
        SuccessResponse("A page, the latest change first.", ConversationList),
        *PAGE,
        errors=(errors.InvalidRequest,),
    ),
    "conversations.import_conversation": Operation(
        id="importConversation",
        tag=Tag.CONVERSATIONS,
        summary="Create a conversation from an exported one",
        description="The conversation and its messages get new ids. The body may have `SLM_MAX_FILE_BYTES`.",
        body=RequestBody(ImportBody, EXPORT, SLM_WITH_NULLS),
        responses=[SuccessResponse("The conversation.", ConversationSaved, status=201)],
        errors=WRITING,
    ),
    "conversations.show": simple(
        "showConversation",
        Tag.CONVERSATIONS,
        "Show a conversation with all of its messages",
        SuccessResponse("The conversation.", ConversationThread),
        CONVERSATION_ID,
        errors=(errors.NotFound,),
    ),
    "conversations.change": Operation(
        id="changeConversation",
        tag=Tag.CONVERSATIONS,
        summary="Change a conversation, or choose the branch that it shows",
        parameters=(CONVERSATION_ID,),
        body=RequestBody(ConversationChange, {"title": "Penguins"}, SLM_WITH_NULLS),
        responses=[SuccessResponse("The conversation.", ConversationSaved)],
        errors=(errors.NotFound, *WRITING),
    ),
    "conversations.delete": simple(
        "deleteConversation",
        Tag.CONVERSATIONS,
        "Delete a conversation; its running jobs continue",
        SuccessResponse("The conversation was deleted.", ConversationDeleted),
        CONVERSATION_ID,
        errors=(errors.NotFound,),
    ),
    "conversations.append": Operation(
        id="appendMessage",
        tag=Tag.CONVERSATIONS,
        summary="Append a message, which is then shown last",
        description=(
            "Answers of the model need no such request: a generation with the field `conversation` keeps its answer by "
            "itself."
        ),
        parameters=(CONVERSATION_ID, headers.IDEMPOTENCY_KEY),
        body=RequestBody(MessageBody, {"role": "user", "content": "Can penguins fly?"}, SLM_WITH_NULLS),
        responses=[SuccessResponse("The message.", MessageSaved, status=201)],
        errors=(errors.NotFound, errors.Conflict, *WRITING),
    ),
    "conversations.change_message": Operation(
        id="changeMessage",
        tag=Tag.CONVERSATIONS,
        summary="Change a message's text or rating",
        parameters=(CONVERSATION_ID, MESSAGE_ID),
        body=RequestBody(MessageChange, {"rating": "up"}, SLM_WITH_NULLS),
        responses=[SuccessResponse("The message.", MessageSaved)],
        errors=(errors.NotFound, errors.Conflict, *WRITING),
    ),
    "conversations.delete_message": simple(
        "deleteMessage",
        Tag.CONVERSATIONS,
        "Delete a message, and all that follow it",
        SuccessResponse("The messages were deleted.", MessagesDeleted),
        CONVERSATION_ID,
        MESSAGE_ID,
        KEEP_REPLIES,
        errors=(errors.InvalidRequest, errors.NotFound),
    ),
    "conversations.export": Operation(
        id="exportConversation",
        tag=Tag.CONVERSATIONS,
        summary="Export a conversation",
        parameters=(CONVERSATION_ID, FORMAT),
        responses=[
            SuccessResponse("As JSON with all branches, which can be imported.", ExportedConversation),
            SuccessResponse("The messages that are shown as Markdown.", media_types=(MARKDOWN,)),
        ],
        errors=(errors.InvalidRequest, errors.NotFound),
    ),
    "openai_conversations.create": Operation(
        id="createOpenAIConversation",
        tag=Tag.CONVERSATIONS,
        summary="Create a conversation, in OpenAI's form",
        body=RequestBody(
            OpenAIConversationBody,
            {"items": [{"role": "user", "content": "Can penguins fly?"}], "metadata": {"topic": "birds"}},
            OPENAI,
            is_required=False,
        ),
        responses=[SuccessResponse("The conversation.", ConversationObject)],
        errors=WRITING,
    ),
    "openai_conversations.show": simple(
        "showOpenAIConversation",
        Tag.CONVERSATIONS,
        "Show a conversation, in OpenAI's form",
        SuccessResponse("The conversation.", ConversationObject),
        CONVERSATION_ID,
        errors=(errors.NotFound,),
    ),
    "openai_conversations.update": Operation(
        id="changeOpenAIConversation",
        tag=Tag.CONVERSATIONS,
        summary="Change a conversation's metadata",
        parameters=(CONVERSATION_ID,),
        body=RequestBody(OpenAIConversationChange, {"metadata": {"topic": "penguins"}}, OPENAI),
        responses=[SuccessResponse("The conversation.", ConversationObject)],
        errors=(errors.NotFound, *WRITING),
    ),
    "openai_conversations.delete": simple(
        "deleteOpenAIConversation",
        Tag.CONVERSATIONS,
        "Delete a conversation, in OpenAI's form",
        SuccessResponse("The conversation was deleted.", DeletedConversation),
        CONVERSATION_ID,
        errors=(errors.NotFound,),
    ),
    "openai_conversations.append": Operation(
        id="createItems",
        tag=Tag.CONVERSATIONS,
        summary="Append items to a conversation",
        parameters=(CONVERSATION_ID,),
        body=RequestBody(ItemsBody, {"items": [{"role": "user", "content": "Can penguins fly?"}]}, OPENAI),
        responses=[SuccessResponse("The new items.", ItemList)],
        errors=(errors.NotFound, *WRITING),
    ),
    "openai_conversations.list_items": simple(
        "listItems",
        Tag.CONVERSATIONS,
        "List the items of a conversation that are shown",
        SuccessResponse("A page, the newest first.", ItemList),
        CONVERSATION_ID,
        LIMIT,
        after(ITEM_ID),
        Parameter("query", "order", {"enum": ["asc", "desc"], "default": "desc"}, "The order of the items."),
        errors=(errors.InvalidRequest, errors.NotFound),
    ),
    "openai_conversations.show_item": simple(
        "showItem",
        Tag.CONVERSATIONS,
        "Show an item",
        SuccessResponse("The item.", ShownItem),
        CONVERSATION_ID,
        ITEM,
        errors=(errors.NotFound,),
    ),
    "openai_conversations.delete_item": simple(
        "deleteItem",
        Tag.CONVERSATIONS,
        "Delete an item; those after it are kept",
        SuccessResponse("The conversation.", ConversationObject),
        CONVERSATION_ID,
        ITEM,
        errors=(errors.NotFound,),
    ),
}
