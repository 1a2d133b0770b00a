"""The bodies of requests and responses about feedback on jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from api.schemas.meaning import Meaning
from api.schemas.prompt_body import MAX_NAME_CHARS, ModelName
from api.schemas.response_model import Count, JobId, ResponseModel, Time
from api.schemas.strict import FIRST_ERROR, Strict
from common.errors import InvalidRequest
from common.ids import UUID

MAX_TAGS, MAX_TAG_CHARS = 16, 64
DEFAULT_LIMIT, MAX_LIMIT = 20, 100

Tag = Annotated[str, Field(pattern=rf"^[^\x00-\x1f\x7f]{{1,{MAX_TAG_CHARS}}}$")]
Tags = Annotated[list[Tag], FIRST_ERROR]
TAGS = f"a list of up to {MAX_TAGS} strings of up to {MAX_TAG_CHARS} characters"


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


Moment = Annotated[str, AfterValidator(_moment), Field(json_schema_extra={"format": "date-time"})]
MOMENT = "a time with its zone, such as 2026-11-27T00:00:00Z"


class FeedbackBody(Strict):
    """What you think of an answer: at least one of rating, correction and tags."""

    rating: Annotated[Literal["up", "down"] | None, Meaning("Whether the answer is good.")] = Field(
        None, description='"up" or "down"'
    )
    correction: Annotated[str | None, Meaning("What the answer should have been.")] = Field(
        None, pattern=r"\S", description="a non-blank string"
    )
    tags: Annotated[Tags, Meaning("By which a dataset can select it.")] = Field(
        default_factory=list, max_length=MAX_TAGS, description=TAGS
    )

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackBody:
        if self.rating is None and self.correction is None and not self.tags:
            raise InvalidRequest("The body must have at least one of rating, correction and tags", param="rating")
        return self


class FeedbackSelection(Strict):
    """Which feedback is meant."""

    tags: Annotated[Tags, Meaning("Only feedback with all of these tags.")] = Field(
        default_factory=list, max_length=MAX_TAGS, description=TAGS
    )
    model: Annotated[
        ModelName | None,
        Meaning("Only answers of this model: `support@3`, `support` (all of its versions), or a base."),
    ] = Field(None, description=f"the name of a model, of at most {MAX_NAME_CHARS} characters")
    since: Annotated[Moment | None, Meaning("Only feedback from then on.")] = Field(None, description=MOMENT)
    until: Annotated[Moment | None, Meaning("Only feedback up to then.")] = Field(None, description=MOMENT)
    owner: Annotated[
        str | None, Meaning("Only feedback on jobs of this owner. Without it, an admin gets everybody's.")
    ] = Field(None, min_length=1, max_length=64, description="the name of an owner; of others only for an admin")


class FeedbackDatasetBody(FeedbackSelection):
    """Which feedback a dataset is made of, and how."""

    kind: Annotated[
        Literal["pairs", "preferences"],
        Meaning(
            "`pairs`: prompts with answers that were rated up, and with corrections. `preferences`: prompts with a "
            "correction, and the answer that it is better than."
        ),
    ] = Field("pairs", description='"pairs" or "preferences"')
    filename: Annotated[str, Meaning("The name of the file.")] = Field(
        "feedback.jsonl", min_length=1, max_length=255, description="a string of 1 to 255 characters"
    )


class FeedbackQuery(FeedbackSelection):
    """The query of `GET /slm/feedback`."""

    rating: Annotated[Literal["up", "down"] | None, Meaning("Only feedback with this rating.")] = Field(
        None, description='"up" or "down"'
    )
    limit: Annotated[int, Meaning("Maximum number of items to list.")] = Field(
        DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description=f"an integer from 1 to {MAX_LIMIT}"
    )
    after: Annotated[str | None, Meaning("The `last_id` of the previous page.")] = Field(
        None, pattern=f"^{UUID}$", description="the last_id of a page"
    )


class JobFeedback(ResponseModel):
    """Feedback on a job, with the prompt and answer that it is about."""

    job_id: JobId
    rating: Literal["up", "down"] | None
    correction: str | None
    tags: list[str]
    prompt: Annotated[Any, Field(description="as the client sent it: text, messages or token ids")]
    response: str
    model: str
    base: str
    created_at: Time
    updated_at: Time


class ShownFeedback(JobFeedback):
    """Feedback on a job, with the prompt and answer that it is about."""

    success: Literal[True]


class FeedbackList(ResponseModel):
    """A page of feedback, the latest change first."""

    success: Literal[True]
    feedback: list[JobFeedback]
    last_id: Annotated[str | None, Field(description="use it as `after` to request the next page")]
    has_more: Annotated[bool, Field(description="a page may be short although more follow")]


class DeletedFeedback(ResponseModel):
    """The feedback was deleted."""

    success: Literal[True]
    job_id: JobId


class FeedbackDataset(ResponseModel):
    """A dataset that was made of feedback, stored as a file with the purpose fine-tune."""

    success: Literal[True]
    file_id: str
    filename: str
    bytes: Count
    kind: Literal["pairs", "preferences"]
    examples: Count
    left_out: Annotated[Count, Field(description="feedback that matches, but of which no such example can be made")]
