"""Runs untrusted code of a model or adapter in the helper's children."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from models.adapter.check import AdapterError, AdapterInfo
from models.errors import UnspellableText
from models.text.chat_template import ChatTemplate, Message
from models.text.text_encoder import Encoding, FastEncoding
from worker.engine.untrusted_code.datasets import DatasetToCheck
from worker.engine.untrusted_code.services import (
    CHECK_ADAPTER,
    CHECK_DATASET,
    ENCODE,
    RENDER_CHAT,
    TOKENIZER,
    UNPACK_ADAPTER,
)
from worker.helper.client import Helper
from worker.helper.given_up import IsGivenUp, holding, never
from worker.helper.limits import Limits, OverLimit

RENDERING = Limits(wall_s=120.0, cpu_s=2.0, memory=256 * 2**20)
ENCODING = Limits(wall_s=120.0, cpu_s=10.0, memory=2 * 2**30)  # of texts up to `SLM_MAX_PROMPT_CHARS`
CHECKING = Limits(wall_s=120.0, cpu_s=2.0, memory=512 * 2**20)  # headers of files, and patterns on every module's name
DATASETS = Limits(wall_s=600.0, cpu_s=120.0, memory=4 * 2**30)  # of files up to `SLM_MAX_FILE_BYTES`
UNPACKING = Limits(wall_s=600.0, cpu_s=120.0, memory=512 * 2**20)  # of archives up to `SLM_MAX_ADAPTER_BYTES`


class TakesTooMuch(Exception):
    """A model's own code exceeds a limit; the text says which, for example "its chat template takes too long"."""


class UntrustedPrograms:
    """Runs the functions of `models` that execute untrusted code, within limits. Thread-safe."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper
        self._lock = threading.Lock()
        self._tokenizers: set[str] = set()  # names of those that the helper has
        self._is_encoding = threading.Lock()  # one long text at a time, so that a core is left for the engine

    def render_chat(self, template: ChatTemplate, messages: list[Message], is_given_up: IsGivenUp = never) -> str:
        """As `models.text.chat_template.render_chat`.

        Raises:
            TemplateError: the template refuses the messages or fails; the text says why.
            TakesTooMuch: the template exceeds a limit.
            GivenUp: `is_given_up` became true first.
        """
        args = {"source": template.source, "variables": dict(template.variables), "messages": messages}
        try:
            reply: dict[str, str] = self._helper.call(RENDER_CHAT, args, RENDERING, is_given_up)
        except OverLimit as err:
            raise TakesTooMuch(f"its chat template {err}") from err
        if "refusal" in reply:
            raise TemplateError(reply["refusal"])
        return reply["text"]

    def encode(
        self,
        name: str,
        tokenizer: Callable[[], str | None],
        text: str,
        with_tokens_around: bool,
        *,
        is_given_up: IsGivenUp = never,
    ) -> list[int]:
        """As `models.text.text_encoder.encode_with`.

        Args:
            name: the tokenizer's name; the helper keeps it under this name until `forget_tokenizer`.
            tokenizer: returns the tokenizer, always the same for a name.
            text, with_tokens_around: as in `encode_with`.
            is_given_up: whether the result is no longer needed.

        Raises:
            UnspellableText: the tokenizer cannot encode the text.
            TakesTooMuch: the tokenizer exceeds a limit.
            GivenUp: `is_given_up` became true first.
        """
        self._configure_tokenizer(name, tokenizer)
        args = {"tokenizer": name, "text": text, "with_tokens_around": with_tokens_around}
        try:
            with holding(self._is_encoding, is_given_up):
                reply: dict[str, Any] = self._helper.call(ENCODE, args, ENCODING, is_given_up, is_long=True)
        except OverLimit as err:
            raise TakesTooMuch(f"its tokenizer {err}") from err
        if "refusal" in reply:
            raise UnspellableText(reply["refusal"])
        ids: list[int] = reply["ids"]
        return ids

    def _configure_tokenizer(self, name: str, tokenizer: Callable[[], str | None]) -> None:
        with self._lock:
            if name not in self._tokenizers:
                self._helper.configure(TOKENIZER + name, tokenizer())
                self._tokenizers.add(name)

    def forget_tokenizer(self, name: str) -> None:
        """Free a tokenizer that is no longer used."""
        with self._lock:
            if name in self._tokenizers:
                self._tokenizers.remove(name)
                self._helper.forget(TOKENIZER + name)

    def check_adapter(self, path: Path, base_name: str, shapes: Mapping[str, tuple[int, ...]]) -> AdapterInfo:
        """As `models.adapter.check.check_adapter`."""
        args = {"path": str(path), "base_name": base_name, "shapes": dict(shapes)}
        try:
            found: dict[str, Any] = self._helper.call(CHECK_ADAPTER, args, CHECKING)
        except OverLimit as err:
            raise AdapterError(
                f"Adapter {str(path)!r} cannot be used: it {err} to check which modules its adapter_config.json names. "
                "Name them in a list, without patterns."
            ) from err
        if "refusal" in found:
            raise AdapterError(found["refusal"])
        sets = {name: frozenset(found[name]) for name in ("embeddings", "base_layers")}
        return AdapterInfo(**(found | sets | {"path": path}))

    def check_dataset(
        self, wanted: DatasetToCheck, name: str, encoding: Encoding, is_given_up: IsGivenUp = never
    ) -> dict[str, Any]:
        """As `worker.engine.untrusted_code.datasets.check_dataset`.

        Args:
            wanted: the dataset.
            name: the tokenizer's name, as in `encode`.
            encoding: with that tokenizer.
            is_given_up: whether the result is no longer needed.

        Raises:
            TakesTooMuch: the check exceeds a limit.
            GivenUp: `is_given_up` became true first.
        """
        args: dict[str, Any] = {"wanted": wanted.to_dict()}
        if isinstance(encoding, FastEncoding):
            self._configure_tokenizer(name, lambda: encoding.state)
            args |= {"tokenizer": name, "secret_names": dict(encoding.secret_names)}
        try:
            report: dict[str, Any] = self._helper.call(CHECK_DATASET, args, DATASETS, is_given_up, is_long=True)
        except OverLimit as err:
            raise TakesTooMuch(f"checking it {err}") from err
        return report

    def unpack_adapter(self, archive: Path, target: Path, max_bytes: int, *, is_given_up: IsGivenUp = never) -> Path:
        """As `models.adapter.archive.unpack_adapter`. Raises `GivenUp` if `is_given_up` became true first."""
        args = {"archive": str(archive), "target": str(target), "max_bytes": max_bytes}
        try:
            found: dict[str, str] = self._helper.call(UNPACK_ADAPTER, args, UNPACKING, is_given_up)
        except OverLimit as err:
            raise AdapterError(f"The archive cannot be unpacked: it {err}.") from err
        if "refusal" in found:
            raise AdapterError(found["refusal"])
        return Path(found["folder"])
