"""Finds the model for embeddings."""

from __future__ import annotations

from common.adapters.registry import AdapterRegistry
from common.embedding.embedders import EmbedderReport, Embedders
from common.errors import InvalidRequest, ModelNotFound

UNCONFIGURED = (
    "This server has no model for embeddings. Set SLM_EMBED_MODEL to the folder of a sentence-transformers model, and "
    "restart it."
)


class EmbeddingModel:
    """The one model for embeddings that a server may have.

    Args:
        embedders: the processes that serve it.
        registry: the models that generate text.
        configured: its name in the settings; None if there is none.
    """

    def __init__(self, embedders: Embedders, registry: AdapterRegistry, configured: str | None) -> None:
        self._embedders = embedders
        self._registry = registry
        self._configured = configured

    def served(self) -> EmbedderReport | None:
        """Return a live embedder's report with the facts about the model; None if there is none."""
        return next(iter(self._embedders.live()), None)

    def name_of(self, requested: str) -> str:
        """Return the name of the model for a request; an empty one stands for the only one.

        Raises:
            InvalidRequest: there is no such model at all, or the one named generates text.
            ModelNotFound: nothing has the requested name.
        """
        report = self.served()
        name = self._configured if report is None else report.model
        if name is None:
            raise InvalidRequest(UNCONFIGURED, param="model")
        if requested in ("", name):
            return name
        if self._registry.resolve(requested) is not None:
            raise InvalidRequest(f"{requested!r} generates text; the model for embeddings is {name!r}.", param="model")
        raise ModelNotFound(f"There is no model {requested[:80]!r}; the one for embeddings is {name!r}.", param="model")
