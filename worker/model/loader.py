"""Loads the configured model for the worker. torch and transformers are imported on first use, not with this module."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from common.adapters.names import public_name
from common.content import ContentHashes
from common.cores import usable_cores
from common.errors import ModelUnavailable
from common.settings import ROOT, Settings
from models.base_model import BaseModelError, model_name, resolve_base_model
from worker.engine.config import EngineConfig, RunnerConfig
from worker.engine.engine import Deliver
from worker.model.base_facts import BaseFacts
from worker.model.folders import default_folder
from worker.model.protocols import Accelerators, LoadedModel, ModelContent, ModelSpec

if TYPE_CHECKING:
    from worker.engine.loading.loader import EngineModel

READ_ATTEMPTS = 3

log = logging.getLogger(__name__)


def engine_config(settings: Settings) -> EngineConfig:
    """Return the engine's part of the settings."""
    return EngineConfig(
        device=settings.device,
        dtype=settings.dtype,
        runner=RunnerConfig(
            max_num_seqs=settings.max_num_seqs,
            context_length=settings.context,
            kv_bytes=settings.kv_memory,
            num_threads=settings.threads or usable_cores(),
            build_dir=settings.data_dir / "native",
        ),
    )


class ConfiguredModelLoader:
    """Loads the models that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hashes = ContentHashes()
        self._base: BaseFacts | None = None

    @cached_property
    def accelerators(self) -> Accelerators:
        """The accelerators of this machine. The first use imports torch and transformers, which takes seconds."""
        with _gc_paused():
            import torch

            import worker.engine.loading.loader  # noqa: F401 - import now rather than at the first load

        return Accelerators(cuda=torch.cuda.is_available(), mps=torch.backends.mps.is_available())

    def spec(self) -> ModelSpec:
        """Return what the next load would load, and onto which device."""
        from worker.engine.loading.loader import choose_device

        try:
            device = choose_device(self._settings.device)[0].type
        except ModelUnavailable:
            device = self._settings.device
        lora_path = default_folder(self._settings)
        return ModelSpec(device, self._settings.base_model, str(lora_path) if lora_path else None)

    def content(self) -> ModelContent:
        """Return the hashes of the files that the next load would read.

        Raises:
            ModelUnavailable: there is no such model or adapter.
        """
        lora_path = default_folder(self._settings)
        try:
            base = self._hashes.of_folder(_folder(self._source()))
            return ModelContent(base, None if lora_path is None else self._hashes.of_folder(ROOT / lora_path))
        except OSError as err:
            raise ModelUnavailable(f"The model's files cannot be read: {err}") from err

    def base(self) -> BaseFacts:
        """Return the facts about the base model.

        Raises:
            ModelUnavailable: there is no such model.
        """
        from worker.engine.loading.base_shapes import base_shapes

        source = self._source()
        try:
            base_id = self._hashes.of_folder(_folder(source))
            if self._base is None or self._base.id != base_id:
                self._base = BaseFacts(public_name(self._settings.base_model), base_id, base_shapes(source))
        except (OSError, ValueError) as err:
            raise ModelUnavailable(f"The base model's files cannot be read: {err}") from err
        return self._base

    def load(self, deliver: Deliver, on_fatal: Callable[[Exception], None]) -> LoadedModel:
        """Load the base model, merge the adapter, start the engine.

        Raises:
            ModelUnavailable: there is no such model or adapter, or they do not fit together.
        """
        with ExitStack() as undo:
            model, content = self._read()
            undo.callback(model.close)
            engine = model.start_engine(deliver, on_fatal)
            undo.pop_all()
        log.info("serving in %s on %s, context %d", model.dtype, model.device, model.context_length)
        return LoadedModel(
            engine,
            model.renderer,
            model.grammars,
            model.device.type,
            model.dtype,
            model.context_length,
            content,
            model.close,
        )

    def _read(self) -> tuple[EngineModel, ModelContent]:
        """Read the model and hash its files; read again if training has changed them meanwhile."""
        for _ in range(READ_ATTEMPTS):
            with ThreadPoolExecutor(1) as pool:  # hashing takes as long as reading
                hashing = pool.submit(self._content_before)
                model = self._read_model()
            with ExitStack() as undo:
                undo.callback(model.close)
                if hashing.result() in (None, content := self.content()):
                    undo.pop_all()
                    return model, content
            log.warning("the model's files changed while they were read: reading them again")
        raise ModelUnavailable("The model's files keep changing. Load the model when they are complete.")

    def _content_before(self) -> ModelContent | None:
        """Return the content before a load; None if the load still has to fetch it from the hub."""
        try:
            return self.content()
        except ModelUnavailable:
            return None

    def _read_model(self) -> EngineModel:
        from worker.engine.loading.loader import load_model

        settings, lora_path = self._settings, default_folder(self._settings)
        log.info("loading base_model=%s lora_path=%s", settings.base_model, lora_path)
        with _gc_paused():
            return load_model(
                self._source(),
                engine_config(settings),
                base_name=model_name(settings.base_model),
                adapter_path=None if lora_path is None else ROOT / lora_path,
            )

    def _source(self) -> str:
        try:
            return resolve_base_model(self._settings.base_model, self._settings.data_dir, progress=log.info)
        except BaseModelError as err:
            raise ModelUnavailable(str(err)) from err


def _folder(source: str) -> Path:
    """Return the folder of the model's files; for a hub id, in the hub's cache.

    Raises:
        OSError: it is not there yet.
    """
    from huggingface_hub import try_to_load_from_cache

    if Path(source).is_dir():
        return Path(source)
    config = try_to_load_from_cache(source, "config.json")
    if not isinstance(config, str):
        raise FileNotFoundError(f"{source} is not in the hub's cache")
    return Path(config).parent


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Disable garbage collection: importing torch makes no garbage, and searching for it takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
