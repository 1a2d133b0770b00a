"""The body of `POST /v1/fine_tuning/jobs`."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.schemas.meaning import Meaning
from api.schemas.metadata import Metadata
from api.schemas.strict import Strict
from common.adapters.names import FORM
from common.errors import InvalidRequest
from common.training.spec import Method, TrainingSpec

MAX_SEED = 2**31 - 1
AUTO: Literal["auto"] = "auto"

Epochs = Literal["auto"] | Annotated[int, Field(ge=1, le=1000)]
BatchSize = Literal["auto"] | Annotated[int, Field(ge=1, le=256)]
Factor = Literal["auto"] | Annotated[float, Field(gt=0, le=100)]
Beta = Literal["auto"] | Annotated[float, Field(gt=0, le=10)]


class Hyperparameters(Strict):
    """The hyperparameters of supervised fine-tuning."""

    n_epochs: Epochs = Field(AUTO, description='"auto" or an integer from 1 to 1000')
    batch_size: BatchSize = Field(AUTO, description='"auto" or an integer from 1 to 256')
    learning_rate_multiplier: Factor = Field(AUTO, description='"auto" or a number above 0, at most 100')

    @property
    def recipe(self) -> dict[str, Any]:
        """The values that replace defaults of the recipe."""
        given = self.model_dump()
        given["epochs"] = given.pop("n_epochs")
        return {name: value for name, value in given.items() if value != AUTO}


class DpoHyperparameters(Hyperparameters):
    """The hyperparameters of direct preference optimization."""

    beta: Beta = Field(AUTO, description='"auto" or a number above 0, at most 10')


class SupervisedMethod(Strict):
    """`method.supervised`."""

    hyperparameters: Hyperparameters = Hyperparameters()


class DpoMethod(Strict):
    """`method.dpo`."""

    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class MethodBody(Strict):
    """`method`: its type, and the parameters of that type."""

    type: Literal["supervised", "dpo"] = Field(description='"supervised" or "dpo"')
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None

    @model_validator(mode="after")
    def _has_only_its_own(self) -> MethodBody:
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise ValueError(f"must not have {other!r} if its type is {self.type!r}")
        return self

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The hyperparameters of the method."""
        if self.type == "dpo":
            return (self.dpo or DpoMethod()).hyperparameters
        return (self.supervised or SupervisedMethod()).hyperparameters


class FineTuningBody(Strict):
    """Body of `POST /v1/fine_tuning/jobs`."""

    model: Annotated[str, Meaning("The base model, or a fine-tuned model to continue.")] = Field(
        min_length=1, max_length=200, description="the name of a model"
    )
    training_file: Annotated[str, Meaning("The dataset.")] = Field(
        description="the id of a file with the purpose fine-tune"
    )
    validation_file: Annotated[str | None, Meaning("The examples to test with; missing: a part of the dataset.")] = (
        Field(None, description="the id of a file with the purpose fine-tune")
    )
    suffix: Annotated[str | None, Meaning("The fine-tuned model's name; missing: one made from the job's id.")] = Field(
        None, pattern=f"^{FORM}$", description="a name of 1 to 64 letters, digits, '.', '_' and '-'"
    )
    seed: Annotated[int | None, Meaning("Makes the run repeatable; missing: a random one.")] = Field(
        None, ge=0, le=MAX_SEED, description=f"an integer from 0 to {MAX_SEED}"
    )
    method: Annotated[MethodBody | None, Meaning("Missing: what the dataset's format is for.")] = Field(
        None, description='an object with a type, "supervised" or "dpo"'
    )
    hyperparameters: Annotated[Hyperparameters | None, Meaning("The older place of `method`'s.")] = Field(
        None, description="an object with n_epochs, batch_size or learning_rate_multiplier"
    )
    metadata: Annotated[Metadata, Meaning("Stored with the job and returned with it.")] = Field(
        default_factory=dict, description="an object of at most 16 strings of 512 characters, with names of 64"
    )
    integrations: Annotated[list[Any], Meaning("There are none.")] = Field(
        default_factory=list, max_length=0, description="an empty list"
    )

    @model_validator(mode="after")
    def _has_one_set_of_hyperparameters(self) -> FineTuningBody:
        if self.method is not None and self.hyperparameters is not None:
            raise InvalidRequest("hyperparameters must be inside of method if there is one", param="hyperparameters")
        return self

    @property
    def chosen_method(self) -> Method | None:
        """The method; None: what the dataset's format is for."""
        return None if self.method is None else self.method.type

    @property
    def chosen(self) -> Hyperparameters:
        """The hyperparameters, from either place."""
        if self.method is not None:
            return self.method.hyperparameters
        return self.hyperparameters or Hyperparameters()

    def to_spec(self, unnamed: str) -> TrainingSpec:
        """Return the parameters of the run; `unnamed` is the adapter's name if there is no suffix."""
        return TrainingSpec(
            name=self.suffix or unnamed,
            file_id=self.training_file,
            validation_file_id=self.validation_file,
            method=self.chosen_method,
            recipe=self.chosen.recipe,
            seed=secrets.randbelow(MAX_SEED) if self.seed is None else self.seed,
        )

    def shown(self) -> dict[str, Any]:
        """Return what the job's object repeats."""
        return {
            "suffix": self.suffix,
            "metadata": dict(self.metadata),
            "hyperparameters": self.chosen.model_dump(),
        }


def unnamed_model(base: str, token: str) -> str:
    """Return the name of a model without a suffix, such as `ft-gpt2-1f2e3d4c`."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", base.partition("@")[0])
    return f"ft-{plain}"[:55] + f"-{token}"
