"""Lists the models that requests can name: the base model, or an adapter, as the workers serve them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from api.overview import public_name
from api.schemas.openai.models import ModelObject
from common.errors import ModelNotFound, NoWorker
from common.fleet import WorkerReport
from common.jobs.store import NO_WORKER_RETRY_S

CREATED = 0  # the real time is unknown, but OpenAI's clients require one


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `parent` is the base of an adapter; `context` is the maximum number of tokens, once it is loaded."""

    id: str
    parent: str | None
    context: int | None

    def __str__(self) -> str:
        return self.id if self.parent is None else f"{self.id} (an adapter of {self.parent})"

    def to_dict(self) -> ModelObject:
        """Return the model object, with vLLM's additional fields."""
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
    """The models of the live workers. If several workers report a name, the one that has loaded the model is used.

    An adapter is merged into its base, so only the adapter's name is served: the base alone is not available.
    """

    def __init__(self, workers: Sequence[WorkerReport]) -> None:
        speaking = sorted(workers, key=lambda one: not one.holds_model)
        self._source = speaking[0] if speaking else None
        self._models: dict[str, Model] = {}
        for model in filter(None, map(_served, speaking)):
            self._models.setdefault(model.id, model)

    def all(self) -> list[Model]:
        """Return all models."""
        return list(self._models.values())

    def get(self, name: str) -> Model:
        """Return the model of that name.

        Raises:
            ModelNotFound: no model has that name.
            NoWorker: no worker is alive.
        """
        if not self._models:
            raise NoWorker("No worker is alive to take the job; try again.", retry_after_s=NO_WORKER_RETRY_S)
        if name not in self._models:
            known = ", ".join(map(str, self._models.values()))
            raise ModelNotFound(f"There is no model {name[:100]!r}; known: {known}.", param="model")
        return self._models[name]

    @property
    def fingerprint(self) -> str:
        """A hash of everything that affects the answers: while it is unchanged, the same seed gives the same answer."""
        one = self._source
        if one is None:
            return _fingerprint()
        return _fingerprint(one.base_model, one.lora_path, one.base_id, one.adapter_id, one.dtype, one.device)


def _fingerprint(*parts: str | None) -> str:
    text = "\n".join(map(str, parts))
    return f"fp_{sha256(text.encode()).hexdigest()[:12]}"


def _served(worker: WorkerReport) -> Model | None:
    if worker.base_model is None:
        return None
    base = public_name(worker.base_model)
    if worker.lora_path is None:
        return Model(base, None, worker.context)
    return Model(Path(worker.lora_path).name, base, worker.context)
