"""What can be asked for by name: what the workers serve, the base model or an adapter on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from api.schemas.openai.models import ModelObject
from common.errors import ModelNotFound, NoWorker
from common.fleet import WorkerReport
from common.jobs.store import NO_WORKER_RETRY_S

CREATED = 0  # nobody knows when a model was made, and OpenAI's clients want a time


@dataclass(frozen=True, slots=True)
class Model:
    """One name. `parent` is the base of an adapter; `context` the most tokens of prompt and answer, once loaded."""

    id: str
    parent: str | None
    context: int | None

    def __str__(self) -> str:
        return self.id if self.parent is None else f"{self.id} (an adapter of {self.parent})"

    def to_dict(self) -> ModelObject:
        """The model object, with the fields that vLLM has besides."""
        return ModelObject(
            id=self.id,
            object="model",
            created=CREATED,
            owned_by="slm",
            root=self.id,
            parent=self.parent,
            max_model_len=self.context,
        )


class Catalogue:
    """The models of the live workers; if several report one name, the worker that holds the model speaks.

    An adapter is merged into its base, so only its own name is served: under the base's, clients would get the adapter.
    """

    def __init__(self, workers: Sequence[WorkerReport]) -> None:
        speaking = sorted(workers, key=lambda one: not one.holds_model)
        self._speaker = speaking[0] if speaking else None
        self._models: dict[str, Model] = {}
        for model in filter(None, map(_served, speaking)):
            self._models.setdefault(model.id, model)

    def all(self) -> list[Model]:
        """Every model."""
        return list(self._models.values())

    def get(self, name: str) -> Model:
        """The model of that name.

        Raises:
            ModelNotFound: there is none.
            NoWorker: nobody is there to know.
        """
        if not self._models:
            raise NoWorker("No worker is alive to take the job; try again.", retry_after_s=NO_WORKER_RETRY_S)
        if name not in self._models:
            known = ", ".join(map(str, self._models.values()))
            raise ModelNotFound(f"There is no model {name[:100]!r}; known: {known}.", param="model")
        return self._models[name]

    @property
    def fingerprint(self) -> str:
        """Changes with what computes the answers: the same seed gives the same answer as long as it stays."""
        one = self._speaker
        if one is None:
            return _fingerprint()
        return _fingerprint(one.base_model, one.lora_path, one.base_id, one.adapter_id, one.dtype, one.device)


def _fingerprint(*parts: str | None) -> str:
    text = "\n".join(map(str, parts))
    return f"fp_{sha256(text.encode()).hexdigest()[:12]}"


def _served(worker: WorkerReport) -> Model | None:
    if worker.base_model is None:
        return None
    base = _name(worker.base_model)
    if worker.lora_path is None:
        return Model(base, None, worker.context)
    return Model(Path(worker.lora_path).name, base, worker.context)


def _name(source: str) -> str:
    """A hub id is a name already; of a folder, the last part is."""
    return Path(source).name if source.startswith((".", "/", "~")) else source
