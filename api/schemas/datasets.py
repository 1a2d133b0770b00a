"""The bodies of dataset checks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.schemas.generated import ModelUsed
from api.schemas.job_options import Body
from api.schemas.meaning import Meaning
from api.schemas.prompt_body import MAX_NAME_CHARS, ModelName
from api.schemas.response_model import Count, JobId, ResponseModel
from common import ids
from common.errors import InvalidRequest

RECIPE = ("epochs", "batch_size", "max_length")  # options that are named as in `training.recipe.Recipe`

FileId = Annotated[str, Field(pattern=f"^{ids.FILE_ID}$")]


class DatasetOptions(Body):
    """How a training would use the dataset. In the query if the body is the dataset itself."""

    model: Annotated[
        ModelName | None,
        Meaning("The base model to train, or an adapter to continue. If it is missing, the base model of `default`."),
    ] = Field(None, description=f"the name of a model, of at most {MAX_NAME_CHARS} characters")
    validation_file_id: Annotated[
        FileId | None, Meaning("An uploaded dataset to test with. If it is missing, a part is held out.")
    ] = Field(None, description="the id of an uploaded file")
    epochs: Annotated[float | None, Meaning("Passes over the data. If it is missing, it depends on the size.")] = Field(
        None, gt=0, le=1000, description="a number above 0 and at most 1000"
    )
    batch_size: Annotated[int | None, Meaning("Examples per step.")] = Field(
        None, ge=1, le=256, description="an integer from 1 to 256"
    )
    max_length: Annotated[int | None, Meaning("Tokens of an example; longer ones are left out.")] = Field(
        None, ge=8, le=1_048_576, description="an integer from 8 to 1048576"
    )
    seed: Annotated[int, Meaning("Chooses the part that is held out.")] = Field(
        0, ge=0, le=2**63 - 1, description="an integer of 0 or more"
    )
    tokens_per_s: Annotated[float | None, Meaning("The speed of training that the estimate assumes.")] = Field(
        None, gt=0, le=1e9, description="a number above 0"
    )

    def to_params(self) -> dict[str, Any]:
        """Return the job's parameters, without the dataset."""
        return {
            "options": {name: value for name in RECIPE if (value := getattr(self, name)) is not None},
            "validation_file_id": self.validation_file_id,
            "seed": self.seed,
            "tokens_per_s": self.tokens_per_s,
        }


class DatasetCheckBody(DatasetOptions):
    """A dataset that was uploaded, or its examples as a list."""

    file_id: Annotated[FileId | None, Meaning("The uploaded dataset.")] = Field(
        None, description="the id of an uploaded file"
    )
    data: Annotated[list[Any] | None, Meaning("The examples, in any of the formats.")] = Field(
        None, description="a list of examples"
    )

    @model_validator(mode="after")
    def _has_one_dataset(self) -> DatasetCheckBody:
        if (self.file_id is None) == (self.data is None):
            raise InvalidRequest("The body must have one of file_id and data", param="file_id")
        return self


class Fault(ResponseModel):
    """Something that is wrong, and what would be right."""

    line: Count
    column: Annotated[Count, Field(description="a character; in CSV the number of the cell")]
    field: Annotated[str | None, Field(description="the path of the field, such as messages[2].content")]
    message: str


class TokenLengths(ResponseModel):
    """Tokens per example, with prompt and answer, and in all examples together."""

    min: Count
    median: Count
    p95: Count
    max: Count
    total: Count
    learned: Annotated[Count, Field(description="tokens of all answers, which the loss counts")]


class TooLong(ResponseModel):
    """The examples that would be left out."""

    max_length: Count
    count: Count
    share: float
    lines: list[Count]


class Duplicates(ResponseModel):
    """Examples that repeat an earlier one; upper and lower case and punctuation do not count."""

    count: Count
    groups: Annotated[list[list[Count]], Field(description="the lines of each group of equal examples")]


class HeldOut(ResponseModel):
    """The part to test with."""

    source: Literal["split", "given"]
    count: Count
    share: float
    lines: list[Count]
    grouped_by: Annotated[
        Literal["response and wording", "wording", "nothing"] | None,
        Field(description="which examples were kept on one side; null if the part was given"),
    ]
    faults: Annotated[list[Fault], Field(description="what is wrong with a given part")]
    total_faults: Count


class Leak(ResponseModel):
    """A held-out question that is trained in the same or nearly the same words."""

    line: Count
    training_line: Count


class Overlap(ResponseModel):
    """Held-out questions that are also trained."""

    count: Count
    examples: list[Leak]


class RenderedPart(ResponseModel):
    """A part of an example, and whether the loss counts it."""

    text: str
    loss: bool


class RenderedExample(ResponseModel):
    """An example exactly as the model will see it."""

    line: Count
    parts: list[RenderedPart]


class TrainingEstimate(ResponseModel):
    """How long a training would take at the given speed."""

    steps: Count
    epochs: float
    batch_size: Count
    tokens: Count
    tokens_per_s: float
    seconds: Count


class Report(ResponseModel):
    """What is wrong with a dataset, and what a training would see of it."""

    usable: Annotated[bool, Field(description="whether a training accepts it")]
    format: Annotated[str, Field(description="chat, instruction, alpaca, prompt_completion, ... or unknown")]
    kind: Literal["conversations", "preferences"]
    count: Annotated[Count, Field(description="examples without faults")]
    faults: Annotated[list[Fault], Field(description="the first 100")]
    total_faults: Count
    tokens: Annotated[TokenLengths | None, Field(description="null if no example could be encoded")]
    too_long: TooLong | None
    duplicates: Duplicates
    held_out: HeldOut
    overlap: Overlap
    examples_rendered: Annotated[list[RenderedExample], Field(description="the first three examples")]
    estimate: TrainingEstimate | None


class DatasetReport(Report, ModelUsed):
    """The report about a dataset."""

    success: bool
    job_id: JobId
