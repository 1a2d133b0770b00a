"""Finds the files of base models and adapter versions, and publishes a new version."""

from __future__ import annotations

from pathlib import Path

from common.adapters.records import Registered, VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import ModelUnavailable
from common.redis.client import connect
from common.settings import Settings
from models.base_model import model_folder, resolve_base_model
from worker.model.adapter_files import AdapterFiles
from worker.model.intake import AdapterIntake
from worker.model.loader import ConfiguredModelLoader
from worker.training.child.reporter import Reporter


class Versions:
    """The models on this machine, by what a job was resolved to."""

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self._settings = settings
        self._reporter = reporter
        self._files = AdapterFiles.from_settings(settings)
        self._registry = AdapterRegistry(connect(settings.required_redis_url()))

    def base(self, name: str) -> Path:
        """Return the folder of a base model.

        Raises:
            ModelUnavailable: this machine has no base model of that name.
            BaseModelError: it cannot be downloaded or converted.
        """
        settings = self._of_base(name)
        return model_folder(resolve_base_model(settings.base_model, settings.data_dir, progress=self._reporter.status))

    def _of_base(self, name: str) -> Settings:
        """Return the settings of a worker that serves a base model. Raises `ModelUnavailable`."""
        if all(base.name != name for base in self._settings.bases):
            raise ModelUnavailable(f"The trainer's settings do not have the base model {name!r} (SLM_MODELS).")
        return self._settings.model_copy(update={"worker_base": name}).of_worker()

    def adapter(self, adapter_id: str) -> Path | None:
        """Return the folder of an adapter; None for the bare base.

        Raises:
            ModelUnavailable: it is neither here nor at the API.
        """
        return self._files.folder(adapter_id) if adapter_id else None

    def newest(self, name: str, base: str) -> Path | None:
        """Return the folder of an adapter's newest version, if it has one of that base. Raises as `adapter`."""
        found = self._registry.resolve(name)
        return self.adapter(found.adapter_id) if found is not None and found.base == base else None

    def publish(self, name: str, folder: Path, base: str) -> tuple[Registered, VersionFacts | None]:
        """Register a folder's adapter for `base` as the newest version of `name`.

        Raises:
            ModelUnavailable, BaseModelError: as `base`.
            AdapterError, OSError, InvalidRequest, Conflict: as `AdapterIntake.publish_folder`.
        """
        loader = ConfiguredModelLoader(self._of_base(base))
        intake = AdapterIntake(self._registry, self._files.store, loader.base, self._files.offer)
        return intake.publish_folder(name, folder)
