"""How a run trains: its parameters, with defaults that follow from the size of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import RecipeError

if TYPE_CHECKING:
    from training.data import Dataset

AUTO = "auto"  # as a value: the default
MIN_SEEN = 160  # examples in all epochs together, below which the facts of a small set are not learned
MAX_EPOCHS = 20
PREFERENCE_FACTOR = 0.1  # DPO compares with where the model began, and leaves it quickly


class _Size(NamedTuple):
    """The defaults for datasets of fewer than `examples` examples."""

    examples: float
    batch_size: int
    epochs: int
    learning_rate: float


SIZES = (_Size(100, 4, 3, 1e-3), _Size(1000, 4, 3, 5e-4), _Size(5000, 8, 2, 3e-4), _Size(math.inf, 8, 2, 2e-4))


class Recipe(BaseModel):
    """The parameters of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    epochs: Annotated[float, Field(gt=0, le=1000)]  # passes over the data
    learning_rate: Annotated[float, Field(gt=0, le=1)]  # the highest: it rises at the start and falls to the end
    batch_size: Annotated[int, Field(ge=1, le=256)]  # examples per step
    rank: Annotated[int, Field(ge=1, le=256)] = 16  # of the LoRA matrices
    alpha: Annotated[int, Field(ge=1, le=1024)] = 32  # the adapter is scaled by alpha / rank
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of inputs of the LoRA matrices left out
    max_length: Annotated[int, Field(ge=8)] = 1024  # tokens of an example; longer ones are left out
    max_steps: Annotated[int, Field(ge=1)] | None = None  # ends the run even if the epochs are not complete
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of the steps in which the learning rate rises
    patience: Annotated[int, Field(ge=0)] = 3  # evaluations without improvement before an early stop; 0: never
    evaluations: Annotated[int, Field(ge=1, le=1000)] = 10  # of the held-out examples over the whole run
    save_steps: Annotated[int, Field(ge=1)] | None = None  # steps between checkpoints; None: with every evaluation
    anchor: Annotated[float, Field(ge=0, le=100)] = 4.0  # how firmly general texts hold the model to its base; 0: not
    beta: Annotated[float, Field(gt=0, le=10)] = 0.1  # `dpo`: how closely the model stays to where it began

    @classmethod
    def for_dataset(cls, dataset: Dataset, overrides: Mapping[str, Any] | None = None) -> Self:
        """Return the defaults for a dataset of this size, with some values replaced.

        Args:
            dataset: the examples to train on, without the held-out ones.
            overrides: values by field name; None and "auto" stand for the default. `learning_rate_multiplier` is
                a factor for the default learning rate.

        Raises:
            RecipeError: a name is unknown or a value invalid; it names the field.
        """
        given = {name: value for name, value in (overrides or {}).items() if value is not None and value != AUTO}
        defaults = _defaults(len(dataset), is_preference=dataset.is_preference)
        factor = given.pop("learning_rate_multiplier", None)
        if factor is not None:
            defaults["learning_rate"] *= _factor(factor)
        try:
            return cls.model_validate({**defaults, **given})
        except ValidationError as err:
            raise _readable(err) from err

    def steps(self, rows: int) -> int:
        """Return the steps of a run over this many rows, if it does not stop early."""
        return self.max_steps or math.ceil(self.epochs * math.ceil(rows / self.batch_size))


def _defaults(examples: int, *, is_preference: bool) -> dict[str, Any]:
    """Return the values that depend on the size. A small set needs many passes for enough steps."""
    size = next(one for one in SIZES if examples < one.examples)
    return {
        "epochs": float(min(MAX_EPOCHS, max(size.epochs, math.ceil(MIN_SEEN / max(1, examples))))),
        "learning_rate": size.learning_rate * (PREFERENCE_FACTOR if is_preference else 1),
        "batch_size": size.batch_size,
    }


def _factor(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100:
        raise RecipeError(
            "learning_rate_multiplier", f"must be a number greater than 0 and at most 100, not {value!r}."
        )
    return float(value)


def _readable(err: ValidationError) -> RecipeError:
    first = err.errors(include_url=False)[0]
    field = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return RecipeError(field, f"is unknown; a recipe has {', '.join(Recipe.model_fields)}.")
    return RecipeError(field, f"{first['msg']} (it is {first['input']!r}).")
