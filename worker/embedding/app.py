"""Entry point of an embedder: `celery -A worker.embedding.app worker -Q slm.embed`. Has effects at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.settings import Settings, SettingsError
from models.encoder import read_encoder
from models.errors import EncoderError
from worker.entry import settings_of

if TYPE_CHECKING:
    from worker.celery.embedder_app import EmbedderApp


def _checked(settings: Settings) -> Settings:
    """Return the settings if they name a model for embeddings. Raises `SettingsError`."""
    if settings.embed_folder is None:
        raise SettingsError("SLM_EMBED_MODEL is not set; name the folder of a sentence-transformers model.")
    try:
        read_encoder(settings.embed_folder)
    except EncoderError as err:
        raise SettingsError(str(err)) from err
    return settings


def _from_env() -> EmbedderApp:
    settings = settings_of("embedder", _checked)
    from worker.celery.embedder_app import EmbedderApp

    return EmbedderApp(settings)


app = _from_env()
