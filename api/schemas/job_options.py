"""The job options: fields of a request body that are about the job rather than its answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from api.schemas.conversation_place import ConversationId, ConversationPlace
from api.schemas.meaning import Meaning
from api.schemas.shown import shown
from api.schemas.strict import Strict
from api.schemas.webhook_target import MAX_URL_CHARS, URL_FORM, URL_PATTERN, Target
from common.errors import InvalidRequest

MAX_WAIT_S = 86_400


def _checked_url(url: str) -> str:
    try:
        Target.parse(url)
    except ValueError as err:
        raise ValueError(f"must be {URL_FORM}; got {shown(url)}") from err
    return url


Url = Annotated[
    str,
    AfterValidator(_checked_url),
    WithJsonSchema({"type": "string", "maxLength": MAX_URL_CHARS, "pattern": URL_PATTERN}),
]
Seconds = Annotated[float, Field(gt=0, le=MAX_WAIT_S)]


class RequestOptions(Strict):
    """The job options of a generation."""

    priority: Annotated[
        Literal["interactive", "bulk"], Meaning("Bulk jobs wait longer than others, but never starve.")
    ] = Field("interactive", description='"interactive" or "bulk"')
    ttl: Annotated[Seconds | None, Meaning("Time limit for waiting in the queue.")] = Field(
        None, description=f"a number of seconds above 0 and at most {MAX_WAIT_S}"
    )
    timeout: Annotated[Seconds | None, Meaning("Time limit for running.")] = Field(
        None, description=f"a number of seconds above 0 and at most {MAX_WAIT_S}"
    )
    webhook_url: Annotated[Url | None, Meaning("Gets a message when the job has ended.")] = Field(
        None, description=URL_FORM
    )
    on_disconnect: Annotated[
        Literal["cancel", "continue"] | None,
        Meaning("Whether the job is cancelled or continues when nobody reads it any more."),
    ] = Field(None, description='"cancel" or "continue"')
    conversation: Annotated[
        ConversationId | ConversationPlace | None,
        Meaning(
            "The conversation in which the answer is kept, as the message `msg_` and the job's id: after the message "
            "that is shown last, or after the message `parent_id`. The job then continues when nobody reads it."
        ),
    ] = Field(None, description="the id of a conversation, or an object with an id and the parent_id of a message")

    @model_validator(mode="after")
    def _may_be_kept(self) -> RequestOptions:
        if self.conversation is not None and getattr(self, "store", None) is False:
            raise InvalidRequest("store must not be false if the answer is kept in a conversation", param="store")
        return self


class Body(Strict):
    """The body of any request that submits a job under `/slm`."""

    run_async: Annotated[bool, Meaning("Whether to respond immediately, with 202 and the job's id.")] = Field(
        False, alias="async", description="true or false"
    )

    def to_params(self) -> dict[str, Any]:
        """Return the job's parameters for its worker."""
        return {}
