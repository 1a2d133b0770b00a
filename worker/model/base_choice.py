"""Decides which of the server's base models an adapter belongs to."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from common.bases import Base
from common.errors import InvalidRequest
from common.settings import Settings
from models.adapter.check import short_name
from models.adapter.config import CONFIG_FILE
from models.base_model import BaseModelError, model_name, needs_conversion, resolve_base_model
from models.errors import AdapterError
from worker.model.base_facts import BaseFacts, Shapes

if TYPE_CHECKING:
    from worker.engine.untrusted_code.client import UntrustedPrograms

MAX_CONFIG = 1_048_576  # bytes

log = logging.getLogger(__name__)


class OtherBase(Exception):
    """The adapter belongs to another base model, whose workers have to check it."""

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self.base = base


class BaseChoice:
    """Chooses the base model of an adapter: the one that its config names, else the one that its weights fit.

    Args:
        settings: those of this worker.
        own: returns the facts about its base model.
    """

    def __init__(self, settings: Settings, own: Callable[[], BaseFacts]) -> None:
        self._settings = settings
        self._own = own
        self._shapes: dict[str, Shapes] = {}

    def names_another(self, folder: Path) -> bool:
        """Return whether the config of the adapter in a folder names other base models of the server, but not ours."""
        named = self._named_by(folder)
        return bool(named) and self._settings.own_base.name not in named

    def check_is_own(self, folder: Path, programs: UntrustedPrograms) -> None:
        """Return if the adapter in a folder belongs to this worker's base model, or to none of them.

        Raises:
            OtherBase: it belongs to another one.
            InvalidRequest: it belongs to several; `param` is `base`.
            SLMError: the files of this worker's base model cannot be read.
        """
        if len(self._settings.bases) == 1:
            return
        found = self._named_by(folder) or self._fitting(folder, programs)
        if len(found) > 1:
            raise InvalidRequest(
                f"The adapter fits several base models: {', '.join(found)}. Say which one, as in ?base={found[0]}.",
                param="base",
            )
        if found and found[0] != self._settings.own_base.name:
            raise OtherBase(found[0])

    def _named_by(self, folder: Path) -> list[str]:
        """Return the base models that the adapter's config names: several if one model has several names here."""
        named = _base_in_config(folder)
        return [base.name for base in self._settings.bases if named and short_name(named) in _short_names(base)]

    def _fitting(self, folder: Path, programs: UntrustedPrograms) -> list[str]:
        return [base.name for base in self._settings.bases if _fits(folder, base.name, self._shapes_of(base), programs)]

    def _shapes_of(self, base: Base) -> Shapes:
        """Return the shapes of a base model's weights; empty if its files are not on this machine."""
        if base == self._settings.own_base:
            return self._own().shapes
        if base.name not in self._shapes:
            shapes = _read_shapes(base.source, self._settings.data_dir)
            if not shapes:
                return {}
            self._shapes[base.name] = shapes
        return self._shapes[base.name]


def _base_in_config(folder: Path) -> str:
    file = folder / CONFIG_FILE
    with suppress(OSError, ValueError, RecursionError):
        if file.stat().st_size <= MAX_CONFIG:
            config = json.loads(file.read_bytes())
            named = config.get("base_model_name_or_path") if isinstance(config, dict) else None
            return named if isinstance(named, str) else ""
    return ""


def _short_names(base: Base) -> set[str]:
    return {short_name(name) for name in (base.name, base.source, model_name(base.source))}


def _fits(folder: Path, name: str, shapes: Shapes, programs: UntrustedPrograms) -> bool:
    if not shapes:
        return False
    try:
        programs.check_adapter(folder, name, shapes)
    except AdapterError:
        return False
    return True


def _read_shapes(model: str, data_dir: Path) -> Shapes:
    from worker.engine.loading.base_files import base_shapes

    if needs_conversion(model, data_dir):
        return {}
    try:
        return base_shapes(resolve_base_model(model, data_dir, progress=log.info))
    except (BaseModelError, OSError, ValueError) as err:
        log.info("adapters are not compared with the base model %s: %s", model, err)
        return {}
