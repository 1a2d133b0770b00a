"""The bodies of requests and responses about training runs and evaluations."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, model_validator

from api.schemas.job_options import Url
from api.schemas.meaning import Meaning
from api.schemas.response_model import Count, JobId, ResponseModel
from api.schemas.strict import FIRST_ERROR, Strict
from api.schemas.webhook_target import URL_FORM
from common.adapters.names import FORM
from common.errors import InvalidRequest
from common.jobs.job import JobState

MAX_ROWS = 10_000
MAX_PROMPTS = 100
MAX_MODELS = 8

Rows = Annotated[list[dict[str, Any]], Field(min_length=2, max_length=MAX_ROWS), FIRST_ERROR]
Name = Annotated[str, Field(max_length=200)]


class FixedPrompt(Strict):
    """A prompt whose answer by the new version must have certain words, or a certain form."""

    prompt: str = Field(min_length=1, description="a non-empty string")
    expected: list[str] = Field(default_factory=list, max_length=20, description="a list of words")
    json_schema: dict[str, Any] | None = Field(None, description="a JSON schema")

    @model_validator(mode="after")
    def _demands_something(self) -> FixedPrompt:
        if not self.expected and self.json_schema is None:
            raise InvalidRequest("Each of prompts must have expected words or a json_schema", param="prompts")
        return self


class _WithData(Strict):
    """A body with a dataset, in one of two ways."""

    file_id: Annotated[str | None, Meaning("The dataset: a file with the purpose `fine-tune`.")] = Field(
        None, description="the id of a file"
    )
    data: Annotated[Rows | None, Meaning("The dataset itself, such as objects with `instruction` and `response`.")] = (
        Field(None, description=f"a list of 2 to {MAX_ROWS} objects")
    )
    webhook_url: Annotated[Url | None, Meaning("Gets a message when the job has ended.")] = Field(
        None, description=URL_FORM
    )

    @model_validator(mode="after")
    def _has_one_dataset(self) -> _WithData:
        if (self.file_id is None) == (self.data is None):
            raise InvalidRequest("Send either file_id or data: exactly one of them", param="file_id")
        return self


class TrainBody(_WithData):
    """Body of `POST /slm/train`. What is missing gets a default that fits the dataset."""

    name: Annotated[str, Meaning("The adapter's name; the run becomes its newest version.")] = Field(
        pattern=f"^{FORM}$", description="a name of 1 to 64 letters, digits, '.', '_' and '-'"
    )
    base: Annotated[Name | None, Meaning("The base model to train on; missing: the server's.")] = Field(
        None, description="the name of a base model"
    )
    start_from: Annotated[Name | None, Meaning("The adapter to continue training.")] = Field(
        None, alias="from", description="the name of an adapter, a version or an alias"
    )
    validation_file_id: Annotated[str | None, Meaning("The examples to test with; missing: a part of the dataset.")] = (
        Field(None, description="the id of a file")
    )
    method: Annotated[Literal["supervised", "dpo"] | None, Meaning("Missing: what the dataset's format is for.")] = (
        Field(None, description='"supervised" or "dpo"')
    )
    epochs: Annotated[float | None, Meaning("Passes over the data.")] = Field(
        None, gt=0, le=1000, description="a number above 0 and at most 1000"
    )
    learning_rate: Annotated[float | None, Meaning("The highest learning rate.")] = Field(
        None, gt=0, le=1, description="a number above 0 and at most 1"
    )
    batch_size: Annotated[int | None, Meaning("Examples per step.")] = Field(
        None, ge=1, le=256, description="an integer from 1 to 256"
    )
    rank: Annotated[int | None, Meaning("Rank of the LoRA matrices.")] = Field(
        None, ge=1, le=256, description="an integer from 1 to 256"
    )
    max_length: Annotated[int | None, Meaning("Tokens of an example; longer ones are left out.")] = Field(
        None, ge=8, le=1_048_576, description="an integer from 8 to 1048576"
    )
    max_steps: Annotated[int | None, Meaning("Ends the run early.")] = Field(
        None, ge=1, le=1_000_000, description="an integer from 1 to 1000000"
    )
    seed: Annotated[int, Meaning("The same request with the same seed gives the same adapter on the same CPU.")] = (
        Field(0, ge=0, le=2**31 - 1, description="an integer from 0 to 2147483647")
    )
    prompts: Annotated[
        Annotated[list[FixedPrompt], Field(max_length=MAX_PROMPTS), FIRST_ERROR],
        Meaning("What the new version must answer, before it is published."),
    ] = Field(
        default_factory=list,
        description=f"a list of at most {MAX_PROMPTS} objects with prompt and expected or json_schema",
    )
    publish: Annotated[bool, Meaning("Whether to publish the adapter if it passes the gate.")] = Field(
        True, description="true or false"
    )
    force: Annotated[bool, Meaning("Whether to publish it although it does not pass.")] = Field(
        False, description="true or false"
    )

    @property
    def recipe(self) -> dict[str, Any]:
        """The values that replace defaults."""
        names = ("epochs", "learning_rate", "batch_size", "rank", "max_length", "max_steps")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class EvaluateBody(_WithData):
    """Body of `POST /slm/evaluate`."""

    models: Annotated[
        Annotated[list[Name], Field(min_length=1, max_length=MAX_MODELS), FIRST_ERROR],
        Meaning("What is measured, side by side."),
    ] = Field(description=f"a list of 1 to {MAX_MODELS} names of models")
    seed: Annotated[int, Meaning("The seed of the evaluation.")] = Field(
        0, ge=0, le=2**31 - 1, description="an integer from 0 to 2147483647"
    )


class RunState(ResponseModel):
    """The state of a training run after it was paused or resumed."""

    success: Literal[True]
    job_id: JobId
    status: Annotated[JobState, Field(description="running: it is paused after its current step")]


class GateRow(ResponseModel):
    """One comparison of the new version with the base model and with the version that it replaces."""

    name: Annotated[str, Field(description="trained, held_out, general_text, general_questions or prompts")]
    better: Literal["lower", "higher"]
    base: float
    current: Annotated[float | None, Field(description="of the version that it replaces; null if there is none")]
    candidate: Annotated[float, Field(description="of the new version")]
    bound: Annotated[float, Field(description="what the new version must reach")]
    passed: bool
    reason: str


class Gate(ResponseModel):
    """Whether the new version may be published, and why."""

    passed: bool
    rows: list[GateRow]


class Trained(ResponseModel):
    """The result of a training run. `version` is null if it was not published; `message` says why."""

    success: bool
    message: str
    name: str
    version: int | None
    published: bool
    adapter_id: Annotated[str | None, Field(description="SHA-256 of the adapter's files")]
    base: str
    method: Literal["supervised", "dpo"]
    seed: int
    examples: Annotated[Count, Field(description="trained on")]
    held_out: Annotated[Count, Field(description="examples that were only tested with")]
    steps: Count
    best_step: Annotated[Count, Field(description="the step that the adapter is from")]
    trained_tokens: Count
    recipe: Annotated[dict[str, Any], Field(description="all parameters of the run")]
    gate: Gate
    curves: Annotated[list[dict[str, Any]], Field(description="the progress of some steps, as in the events")]
    job_id: JobId


class ModelScores(ResponseModel):
    """The scores of one model on a dataset."""

    name: Annotated[str, Field(description="as in the request")]
    model: Annotated[str, Field(description="what it stood for: a version such as `support@3`, or a base model")]
    loss: Annotated[float, Field(description="mean cross-entropy per token of the responses, in nats")]
    perplexity: float
    token_accuracy: Annotated[float, Field(description="share of tokens that are the model's first choice")]
    exact: Annotated[float, Field(description="share of answers that are the expected response")]
    overlap: Annotated[float, Field(description="mean F1 of the words of answer and expected response")]
    examples: Count
    left_out: Annotated[Count, Field(description="examples that were too long")]


class Evaluated(ResponseModel):
    """The result of an evaluation, in the order of the request."""

    success: bool
    message: str
    seed: int
    examples: Count
    models: list[ModelScores]
    job_id: JobId


class TrainingProgress(ResponseModel):
    """The progress of a training run (step, loss, ...) or of an evaluation (model, done, total)."""

    status: Annotated[str, Field(description="a line for people")]
    at: Annotated[float, Field(description="seconds since the epoch")]
    step: NotRequired[Count]
    steps: NotRequired[Annotated[Count, Field(description="of the whole run, if it does not stop early")]]
    epoch: NotRequired[float]
    loss: NotRequired[Annotated[float, Field(description="of the step's examples")]]
    accuracy: NotRequired[float]
    learning_rate: NotRequired[float]
    held_out_loss: NotRequired[float]
    held_out_accuracy: NotRequired[float]
    tokens: NotRequired[Annotated[Count, Field(description="trained so far")]]
    tokens_per_s: NotRequired[float]
    seconds_left: NotRequired[Annotated[float, Field(description="an estimate")]]
    model: NotRequired[str]
    done: NotRequired[Count]
    total: NotRequired[Count]


class TrainingSample(ResponseModel):
    """What the model in training answers now."""

    at: Annotated[float, Field(description="seconds since the epoch")]
    step: Annotated[Count, Field(description="0 is the untrained model")]
    prompt: str
    expected: Annotated[str, Field(description="the response in the dataset")]
    response: str
    trained: Annotated[bool, Field(description="whether the model learns from this example; else it is held out")]


class TrainingCheckpoint(ResponseModel):
    """From here the run can be continued."""

    at: Annotated[float, Field(description="seconds since the epoch")]
    step: Count
    is_best: Annotated[bool, Field(description="whether it has the lowest held-out loss so far")]
