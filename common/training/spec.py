"""What a training run and an evaluation are asked to do: the parameters of their jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Method = Literal["supervised", "dpo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """The parameters of a training run. Its base, and the version it continues, are the job's model.

    Attributes:
        name: of the adapter.
        file_id: the file with the dataset.
        validation_file_id: the file with the held-out examples; None: a part of the dataset is held out.
        method: None: what the dataset is for.
        recipe: values that replace defaults (`training.recipe.Recipe`).
        prompts: what the gate asks besides (`training.gate.FixedPrompt`): prompt, expected, json_schema.
        seed: of the split, the order of the examples and the first weights.
        publish: whether to publish the adapter if it passes the gate.
        force: whether to publish it although it does not.
    """

    name: str
    file_id: str
    validation_file_id: str | None = None
    method: Method | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    prompts: Sequence[Mapping[str, Any]] = ()
    seed: int = 0
    publish: bool = True
    force: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> TrainingSpec:
        """Parse the JSON form, which may have notes besides."""
        return cls(**{name: value for name, value in wire.items() if name != "notes"})


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """A model to evaluate: the name that the client sent, and what it stood for when the job was accepted."""

    name: str
    model: str
    base: str
    adapter_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """The parameters of an evaluation: several models, side by side, on one file."""

    file_id: str
    models: Sequence[EvaluatedModel]
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> EvaluationSpec:
        """Parse the JSON form, which may have notes besides."""
        models = [EvaluatedModel(**one) for one in wire["models"]]
        return cls(file_id=wire["file_id"], models=models, seed=wire["seed"])
