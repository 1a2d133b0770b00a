"""Shows the models that requests can name in Ollama's form."""

from __future__ import annotations

from hashlib import sha256

from api.current import services
from api.openai.models import all_models, model
from api.schemas.ollama.requests import LATEST
from api.schemas.ollama.responses import OllamaDetails, OllamaLoaded, OllamaModel, OllamaShown
from api.schemas.openai.models import ModelObject
from api.times import iso
from common.adapters.names import public_name
from common.embedding.embedders import EmbedderReport

NEVER = "9999-12-31T23:59:59.000Z"


def listed() -> list[OllamaModel]:
    """Return all models, the default first."""
    return [_model(one) for one in all_models()]


def loaded() -> list[OllamaLoaded]:
    """Return the base models that workers have in memory, and the model for embeddings."""
    reports = {public_name(one.base_model): one for one in services().overview.workers() if one.base_model}
    listed = [_loaded(name, report.context or 0) for name, report in sorted(reports.items()) if report.holds_model]
    encoder = services().embedding.served()
    return listed if encoder is None else [*listed, _loaded(encoder.model, encoder.max_tokens)]


def _loaded(name: str, context: int) -> OllamaLoaded:
    return OllamaLoaded(**_model(model(name)), expires_at=NEVER, size_vram=0, context_length=context)


def shown(name: str) -> OllamaShown:
    """Return the model of that name. Raises `ModelNotFound`."""
    found = model(name)
    encoder = _encoder(name)
    facts = {} if found["max_model_len"] is None else {"slm.context_length": found["max_model_len"]}
    if encoder is not None:
        facts["slm.embedding_length"] = encoder.dimensions
    return OllamaShown(
        modelfile=f"FROM {found['root']}",
        parameters="",
        template="",
        details=_details(found),
        model_info={"general.architecture": "slm", "general.basename": found["root"], **facts},
        capabilities=["completion", "tools"] if encoder is None else ["embedding"],
        modified_at=iso(found["created"] * 1000),
    )


def _encoder(name: str) -> EmbedderReport | None:
    """Return the report about the model for embeddings, if that is its name."""
    encoder = services().embedding.served()
    return encoder if encoder is not None and encoder.model == name else None


def _model(one: ModelObject) -> OllamaModel:
    encoder = _encoder(one["id"])
    return OllamaModel(
        name=f"{one['id']}{LATEST}",
        model=f"{one['id']}{LATEST}",
        modified_at=iso(one["created"] * 1000),
        size=0 if encoder is None else encoder.size,
        digest=_digest(one) if encoder is None else encoder.digest,
        details=_details(one),
    )


def _digest(one: ModelObject) -> str:
    resolved = services().registry.resolve(one["id"])
    adapter_id = "" if resolved is None else resolved.adapter_id
    return adapter_id if len(adapter_id) == 64 else sha256(one["root"].encode()).hexdigest()


def _details(one: ModelObject) -> OllamaDetails:
    return OllamaDetails(
        parent_model=one["parent"] or "",
        format="safetensors",
        family="slm",
        families=["slm"],
        parameter_size="",
        quantization_level="",
    )
