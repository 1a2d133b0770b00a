"""Finds the model for embeddings."""

from __future__ import annotations

from api.current import services
from common.embedding.embedders import EmbedderReport
from common.errors import InvalidRequest, ModelNotFound

UNCONFIGURED = (
    "This server has no model for embeddings. Set SLM_EMBED_MODEL to the folder of a sentence-transformers model, and "
    "restart it."
)


def served() -> EmbedderReport | None:
    """Return a live embedder's report with the facts about the model; None if there is none."""
    return next(iter(services().embedders.live()), None)


def name_of(requested: str) -> str:
    """Return the name of the model for a request; an empty one stands for the only one.

    Raises:
        InvalidRequest: there is no such model at all, or the one named generates text.
        ModelNotFound: nothing has the requested name.
    """
    report = served()
    name = services().settings.embed_name if report is None else report.model
    if name is None:
        raise InvalidRequest(UNCONFIGURED, param="model")
    if requested in ("", name):
        return name
    if services().registry.resolve(requested) is not None:
        raise InvalidRequest(f"{requested!r} generates text; the model for embeddings is {name!r}.", param="model")
    raise ModelNotFound(f"There is no model {requested[:80]!r}; the one for embeddings is {name!r}.", param="model")
