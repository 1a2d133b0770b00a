"""The bodies of requests for responses, and for the number of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.openai.responses.input import ResponseInput
from api.openai.sampling_body import OpenAISampling
from api.schemas.conversation_place import ConversationPlace
from api.schemas.ignored import IgnoredFields
from api.schemas.job_options import RequestOptions
from api.schemas.meaning import Meaning
from api.schemas.metadata import METADATA, Metadata
from api.schemas.sampling import MAX_NEW_TOKENS
from api.schemas.strict import FIRST_ERROR
from api.schemas.tool_use import ToolUse
from common.adapters.names import DEFAULT_ALIAS
from common.errors import InvalidRequest
from common.jobs.job import GenerateParams
from common.jobs.prompts import Conversation
from common.jobs.prompts import Message as PromptMessage
from common.jobs.sampling import MAX_LOGPROBS, SamplingParams

LOGPROBS = "message.output_text.logprobs"


class ResponseBody(ResponseInput, OpenAISampling, RequestOptions):
    """OpenAI's fields, vLLM's of sampling, and the job options (`RequestOptions`).

    Without a limit the answer may fill the context.
    """

    max_output_tokens: Annotated[
        int | None, Meaning("Maximum number of tokens of the answer; if missing, the answer may fill the context.")
    ] = Field(None, ge=1, le=MAX_NEW_TOKENS, description=f"an integer from 1 to {MAX_NEW_TOKENS}")
    metadata: Annotated[Metadata, Meaning("Stored with the response and returned with it.")] = Field(
        default_factory=dict, description=METADATA
    )
    user: Annotated[str | None, Meaning("For the client's own use; returned with the response.")] = Field(
        None, description="a string"
    )
    background: Annotated[
        bool, Meaning("Whether to respond immediately, while the response is generated in the background.")
    ] = Field(False, description="true or false")
    store: Annotated[bool, Meaning("Whether the response can be fetched by its id later.")] = Field(
        True, description="true or false"
    )
    include: Annotated[
        Annotated[list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]], FIRST_ERROR] | None,
        Meaning("What the answer also has: log probabilities. Reasoning is never encrypted."),
    ] = Field(  # type: ignore[assignment]  # one value more than the ignored field has
        None, max_length=2, description=f'a list of "{LOGPROBS}" and "reasoning.encrypted_content"'
    )
    top_logprobs: Annotated[
        int | None, Meaning(f'With `include: ["{LOGPROBS}"]`, the number of alternatives for each token.')
    ] = Field(None, ge=0, le=MAX_LOGPROBS, description=f"an integer from 0 to {MAX_LOGPROBS}")

    @model_validator(mode="after")
    def _top_logprobs_require_logprobs(self) -> ResponseBody:
        if self.top_logprobs and self._logprobs is None:
            raise InvalidRequest(f'top_logprobs can only be used with include: ["{LOGPROBS}"]', param="top_logprobs")
        return self

    @model_validator(mode="after")
    def _can_be_found_again(self) -> ResponseBody:
        if self.background and not self.store:
            raise InvalidRequest(
                "background can only be used when `store` is true; otherwise the response could not be found",
                param="store",
            )
        return self

    def to_params(self, history: Sequence[PromptMessage] = ()) -> GenerateParams:
        """Return the generation; its notes are the request's fields that the response object repeats."""
        use = self.tool_use
        notes = self._notes() | (self.tools_said_back() if use.can_call else {})
        return GenerateParams(
            self.prompt(history, use.shown), self._sampling(use), {"response": notes}, splits_reasoning=True
        )

    @property
    def _logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if LOGPROBS in (self.include or ()) else None

    def _sampling(self, use: ToolUse) -> SamplingParams:
        return self.seeded_sampling(
            self.drawn_seed(),
            max_new_tokens=self.max_output_tokens or MAX_NEW_TOKENS,
            grammar=use.grammar,
            logprobs=self._logprobs,
            **use.no_stop,
        )

    def _notes(self) -> dict[str, Any]:
        repeated = {"model", "instructions", "max_output_tokens", "temperature", "top_p", "metadata", "user"}
        kept = self.model_dump(include=repeated | {"background", "store", "previous_response_id"})
        place = self.conversation
        conversation = {"id": place.id} if isinstance(place, ConversationPlace) else place and {"id": place}
        return kept | {"conversation": conversation, "text": self.text.model_dump(by_alias=True, exclude_none=True)}


class InputTokensBody(ResponseInput, IgnoredFields):
    """Body of `POST /v1/responses/input_tokens`."""

    model: Annotated[str, Meaning("The model to use; if it is missing, the alias `default`.")] = Field(
        DEFAULT_ALIAS, min_length=1, description="the name of a model that GET /v1/models lists"
    )

    def to_prompt(self, history: Sequence[PromptMessage]) -> Conversation:
        """Return the prompt."""
        return self.prompt(history, self.tool_use.shown)
