"""Lists the models that requests can name: base models, adapters and aliases, as the registry has them.

The model for embeddings is the last one.
"""

from __future__ import annotations

from api.current import services
from api.schemas.openai.models import ModelObject
from common.adapters.names import DEFAULT_ALIAS
from common.adapters.records import Resolved
from common.embedding.embedders import EmbedderReport


def all_models() -> list[ModelObject]:
    """Return all models: first the default, because many clients offer the first one."""
    contexts = _contexts()
    known = sorted(services().registry.known(), key=lambda model: (model.name != DEFAULT_ALIAS, model.name))
    created = services().registry.created([model.resolved for model in known])
    listed = [_object(one.name, one.resolved, when, contexts) for one, when in zip(known, created, strict=True)]
    encoder = services().embedding.served()
    return listed if encoder is None else [*listed, _encoder(encoder)]


def model(name: str) -> ModelObject:
    """Return the model of that name.

    Raises:
        ModelNotFound: no model has that name.
    """
    registry, encoder = services().registry, services().embedding.served()
    if encoder is not None and encoder.model == name:
        return _encoder(encoder)
    resolved = registry.resolve(name)
    if resolved is None:
        raise registry.unknown(name)
    [created] = registry.created([resolved])
    return _object(name, resolved, created, _contexts())


def _encoder(report: EmbedderReport) -> ModelObject:
    return ModelObject(
        id=report.model,
        object="model",
        created=report.started,
        owned_by="slm",
        root=report.model,
        parent=None,
        max_model_len=report.max_tokens,
    )


def _contexts() -> dict[str, int]:
    """Return the context of each base model that a worker has loaded."""
    workers = services().overview.workers()
    return {one.base_name: one.context for one in workers if one.base_model and one.context}


def _object(name: str, resolved: Resolved, created: int, contexts: dict[str, int]) -> ModelObject:
    """Return the model object, with vLLM's additional fields."""
    return ModelObject(
        id=name,
        object="model",
        created=created,
        owned_by="slm",
        root=resolved.model,
        parent=resolved.base if resolved.adapter_id else None,
        max_model_len=contexts.get(resolved.base),
    )
