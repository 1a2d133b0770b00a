"""Loads the configured model for the worker. torch and transformers are imported on first use, not with this module."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from common.content import ContentHashes
from common.cores import usable_cores
from common.errors import ModelUnavailable
from common.settings import ROOT, Settings
from models.base_model import BaseModelError, model_folder, model_name, resolve_base_model
from worker.engine.config import EngineConfig, RunnerConfig
from worker.engine.engine import Deliver
from worker.engine.loading.accelerators import may_have_accelerator
from worker.engine.sequence import BASE_ADAPTER
from worker.model.adapter_cache import AdapterCache
from worker.model.adapter_files import AdapterFiles
from worker.model.base_card import read_base_card
from worker.model.base_facts import BaseFacts
from worker.model.folders import default_folder
from worker.model.protocols import (
    Accelerators,
    AdapterObserver,
    LoadedAdapter,
    LoadedModel,
    ModelContent,
    ModelSpec,
)

if TYPE_CHECKING:
    from worker.engine.loading.loader import EngineModel
    from worker.engine.loading.texts import ModelText

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
            kv_cache_dtype=settings.kv_cache_dtype,
            num_threads=settings.threads or usable_cores(),
            build_dir=settings.data_dir / "native",
        ),
    )


class ConfiguredModelLoader:
    """Loads the models that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hashes = ContentHashes(settings.data_dir / "native" / "hashes.json")
        self._base: BaseFacts | None = None
        self._files = AdapterFiles.from_settings(settings)

    @cached_property
    def accelerators(self) -> Accelerators:
        """The accelerators of this machine. If there may be one, the first use imports torch, which takes seconds."""
        if not may_have_accelerator():
            return Accelerators(cuda=False, mps=False)
        with _gc_paused():
            import torch

        return Accelerators(cuda=torch.cuda.is_available(), mps=torch.backends.mps.is_available())

    def spec(self) -> ModelSpec:
        """Return what the next load would load, and onto which device."""
        device, found = self._settings.device, self.accelerators
        if device == "auto":
            device = "cuda" if found.cuda else "mps" if found.mps else "cpu"
        lora_path = default_folder(self._settings)
        return ModelSpec(device, self._settings.base_model, str(lora_path) if lora_path else None)

    def content(self) -> ModelContent:
        """Return the hashes of the files that the next load would read.

        Raises:
            ModelUnavailable: there is no such model or adapter.
        """
        lora_path = default_folder(self._settings)
        try:
            adapter_id = None if lora_path is None else self._hashes.of_folder(ROOT / lora_path)
            return ModelContent(self._base_id(), adapter_id)
        except OSError as err:
            raise ModelUnavailable(f"The model's files cannot be read: {err}") from err

    def base(self) -> BaseFacts:
        """Return the facts about the base model.

        Raises:
            ModelUnavailable: there is no such model.
        """
        source = self._source()
        try:
            base_id = self._base_id()
            if self._base is None or self._base.id != base_id:
                from worker.engine.loading.base_files import base_shapes

                self._base = BaseFacts(self._settings.own_base.name, base_id, base_shapes(source), source)
        except (OSError, ValueError) as err:
            raise ModelUnavailable(f"The base model's files cannot be read: {err}") from err
        return self._base

    def load(self, deliver: Deliver, on_fatal: Callable[[Exception], None], observer: AdapterObserver) -> LoadedModel:
        """Load the base model and start its engine. Adapters are loaded later, when they are used or pinned.

        Raises:
            ModelUnavailable: there is no such model.
        """
        with ExitStack() as undo:
            model, base_id = self._read()
            undo.callback(model.close)
            engine = model.start_engine(deliver, on_fatal)
            undo.pop_all()
        log.info("serving in %s on %s, context %d", model.dtype, model.device, model.context_length)
        model.keep_prepared(base_id)
        self._base = BaseFacts(self._settings.own_base.name, base_id, model.shapes, model.source)
        adapters = self._adapters(model, observer)
        adapters.start()

        def close() -> None:
            adapters.close()
            model.close()

        card = read_base_card(model_folder(model.source))
        return LoadedModel(engine, adapters, model.device, model.dtype, model.context_length, base_id, close, card)

    def _adapters(self, model: EngineModel, observer: AdapterObserver) -> AdapterCache:
        def load(adapter_id: str) -> LoadedAdapter:
            adapter = model.load_adapter(adapter_id, self._files.folder(adapter_id), never_changes=True)
            return _in_memory(adapter_id, adapter.text, adapter.num_bytes, adapter.close)

        base = _in_memory(BASE_ADAPTER, model.texts.base, 0, _nothing_to_free)
        return AdapterCache(
            base,
            load,
            max_bytes=self._settings.adapter_memory,
            observer=observer,
            is_here=self._files.is_here,
            fetch=self._files.fetch,
        )

    def _read(self) -> tuple[EngineModel, str]:
        """Read the model and hash its files; read again if they have changed meanwhile."""
        if (prepared := self._read_prepared()) is not None:
            return prepared
        for _ in range(READ_ATTEMPTS):
            with ThreadPoolExecutor(1) as pool:  # hashing takes as long as reading
                hashing = pool.submit(self._base_id_before)
                model = self._read_model()
            with ExitStack() as undo:
                undo.callback(model.close)
                if hashing.result() in (None, base_id := self._base_id()):
                    undo.pop_all()
                    return model, base_id
            log.warning("the model's files changed while they were read: reading them again")
        raise ModelUnavailable("The model's files keep changing. Load the model when they are complete.")

    def _read_prepared(self) -> tuple[EngineModel, str] | None:
        """Return the model from the file of an earlier load; None if there is none."""
        from worker.engine.loading.loader import load_prepared

        if (base_id := self._base_id_before()) is None:
            return None
        settings = self._settings
        with _gc_paused():
            model = load_prepared(
                self._source(), engine_config(settings), base_name=model_name(settings.base_model), base_id=base_id
            )
        return None if model is None else (model, base_id)

    def _base_id_before(self) -> str | None:
        """Return the hash before a load; None if the load still has to fetch the files from the hub."""
        try:
            return self._base_id()
        except (ModelUnavailable, OSError):
            return None

    def _base_id(self) -> str:
        return self._hashes.of_folder(model_folder(self._source()))

    def _read_model(self) -> EngineModel:
        from worker.engine.loading.loader import load_model

        settings = self._settings
        log.info("loading base_model=%s", settings.base_model)
        with _gc_paused():
            return load_model(self._source(), engine_config(settings), base_name=model_name(settings.base_model))

    def _source(self) -> str:
        try:
            return resolve_base_model(self._settings.base_model, self._settings.data_dir, progress=log.info)
        except BaseModelError as err:
            raise ModelUnavailable(str(err)) from err


def _in_memory(adapter_id: str, text: ModelText, num_bytes: int, close: Callable[[], None]) -> LoadedAdapter:
    return LoadedAdapter(adapter_id, text.renderer, text.grammars, num_bytes, close)


def _nothing_to_free() -> None:
    """The base model is freed with its engine."""


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Disable garbage collection: importing torch makes no garbage, and searching for it takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
