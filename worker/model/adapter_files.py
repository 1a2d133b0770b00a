"""The files of adapters as a worker uses them: in its data folder, or fetched from the API."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from common.adapters.store import AdapterFilesError, AdapterStore
from common.errors import ModelUnavailable
from common.settings import Settings
from worker.model.api_files import ApiFiles


class AdapterFiles:
    """Adapters' files by their ids. Thread-safe.

    Args:
        store: those in the data folder.
        api: those that the API has; None: the API has the same data folder.
    """

    def __init__(self, store: AdapterStore, api: ApiFiles | None) -> None:
        self.store = store
        self.api = api

    @classmethod
    def from_settings(cls, settings: Settings) -> AdapterFiles:
        """Return the files of the configured data folder and API."""
        return cls(AdapterStore(settings.data_dir / "adapters"), api_files(settings))

    def is_here(self, adapter_id: str) -> bool:
        """Return whether `folder` need not fetch the files; true if they are nowhere."""
        return self.api is None or self.store.has(adapter_id)

    def folder(self, adapter_id: str) -> Path:
        """Return the folder of an adapter with checked files. Damaged ones are fetched again, if possible.

        Raises:
            ModelUnavailable: the files are not here, or are damaged.
        """
        try:
            return self.store.folder(adapter_id)
        except AdapterFilesError as err:
            if self.api is None:
                raise ModelUnavailable(str(err)) from err
        self.fetch(adapter_id)
        return self.store.folder(adapter_id)

    def fetch(self, adapter_id: str) -> None:
        """Fetch an adapter from the API, unless it is here.

        Raises:
            ModelUnavailable: the API does not have it, cannot be used, or sent other files.
        """
        if self.api is None:
            return
        try:
            self.store.receive(adapter_id, partial(self.api.fetch_adapter, adapter_id))
        except (AdapterFilesError, ModelUnavailable, OSError) as err:
            raise ModelUnavailable(f"Its files cannot be fetched from the API: {err}") from err

    def offer(self, adapter_id: str, folder: Path) -> None:
        """Send an adapter to the API, unless the API has it. Raises `ModelUnavailable`."""
        if self.api is not None:
            self.api.offer_adapter(adapter_id, folder)


def api_files(settings: Settings) -> ApiFiles | None:
    """Return the configured API's files; None if the API has this data folder."""
    if settings.api_url is None:
        return None
    key = None if settings.worker_key is None else settings.worker_key.get_secret_value()
    return ApiFiles(settings.api_url, key, max_bytes=settings.max_adapter_bytes)
