"""The field of a generation that says in which conversation its answer is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas.strict import Strict
from common import ids

ConversationId = Annotated[str, Field(pattern=f"^{ids.CONVERSATION_ID}$")]
MessageId = Annotated[str, Field(pattern=f"^{ids.MESSAGE_ID}$")]


class ConversationPlace(Strict):
    """A place in a conversation: after the message `parent_id`, or at the root if it is null.

    Without a `parent_id`: after the message that is shown last.
    """

    id: ConversationId
    parent_id: MessageId | None = None

    @property
    def follows_shown(self) -> bool:
        """Whether it is after the message that is shown last."""
        return "parent_id" not in self.model_fields_set
