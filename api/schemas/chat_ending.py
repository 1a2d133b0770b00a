"""The fields that set how a rendered conversation ends, as vLLM names them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from api.schemas.meaning import Meaning
from api.schemas.messages import Message
from api.schemas.strict import Strict
from common.errors import InvalidRequest
from common.jobs.prompts import Ending


class ChatEnding(Strict):
    """For a body with `messages`."""

    continue_final_message: Annotated[
        bool, Meaning("Whether the answer continues the last message, the assistant's, instead of a new one.")
    ] = Field(False, description="true or false")
    add_generation_prompt: Annotated[
        bool | None, Meaning("Whether the prompt ends with the header of a new message; true if nothing is continued.")
    ] = Field(None, description="true or false")

    @model_validator(mode="after")
    def _can_end_so(self) -> ChatEnding:
        if self.continue_final_message and self.add_generation_prompt:
            raise InvalidRequest(
                "add_generation_prompt must be false if continue_final_message is true", param="add_generation_prompt"
            )
        messages: list[Message] | None = getattr(self, "messages", None)
        if self.continue_final_message and (not messages or messages[-1].role != "assistant"):
            raise InvalidRequest(
                "continue_final_message can only be used if the last message is the assistant's",
                param="continue_final_message",
            )
        return self

    @property
    def ending(self) -> Ending:
        """How the rendered conversation ends."""
        if self.continue_final_message:
            return Ending.CONTINUE
        return Ending.CLOSED if self.add_generation_prompt is False else Ending.NEW_TURN
