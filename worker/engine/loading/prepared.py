"""Prepared models: after its first load on CPUs, all that serving needs of a base model is in one file.

From that file a worker starts without reading the weights, and without importing torch and transformers.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import models
from common.errors import ModelUnavailable
from common.settings import Dtype
from models.text.plain_tokenizer import PlainTokenizer, TokenizerState
from models.text.text_encoder import FastEncoding
from worker.engine.config import EngineConfig, RunnerConfig
from worker.engine.kv_cache.budget import default_kv_bytes
from worker.engine.loading.accelerators import may_have_accelerator
from worker.engine.model_runner import CacheTooSmall
from worker.engine.native.errors import NativeUnavailable
from worker.engine.native.model_file import MappedModel, map_model, model_file, write_model
from worker.engine.native.packed_model import PackedModel, restored
from worker.engine.native.runner import NativeCode, NativeRunner

logger = logging.getLogger(__name__)

_PRECISIONS: dict[Dtype, Literal["fp32", "int8"]] = {"auto": "int8", "int8": "int8", "float32": "fp32"}
_ENGINE, _MODELS = Path(__file__).parent.parent, Path(models.__file__).parent
# The folders with the modules that determine what a file contains.
_SOURCES = (*(_ENGINE / name for name in ("checkpoints", "loading", "native", "runners")), _MODELS, _MODELS / "text")
# The methods of a transformers tokenizer that `PlainTokenizer` replaces.
_REPLACED = ("encode", "decode", "_decode", "convert_ids_to_tokens", "convert_tokens_to_ids", "get_vocab", "__len__")


@dataclass(frozen=True, slots=True)
class BaseText:
    """What serving needs of a base model besides its weights."""

    tokenizer: dict[str, Any]  # a `TokenizerState` in JSON form
    encoding: dict[str, Any]  # a `FastEncoding` with the template's control tokens, in JSON form
    template: str | None
    declared_end_ids: list[int]
    context_length: int  # maximum tokens that the model supports
    token_bytes: int  # keys and values of a token in 32 bits
    shapes: dict[str, tuple[int, ...]]  # of the weights by their names in transformers


def plain_state(tokenizer: Any) -> TokenizerState | None:
    """Return a transformers tokenizer's state; None if a `PlainTokenizer` of it might differ from it."""
    from transformers import TokenizersBackend

    kind = type(tokenizer)
    if not all(getattr(kind, name, None) is getattr(TokenizersBackend, name) for name in _REPLACED):
        return None
    return TokenizerState.of(tokenizer)


class PreparedModel:
    """A prepared model, mapped from its file. `make_runner` hands the file over to the runner; else `close` it."""

    def __init__(self, code: NativeCode, mapped: MappedModel) -> None:
        facts = mapped.facts
        self._code = code
        self._packed: PackedModel = restored(mapped, facts["model"])
        shapes = {name: tuple(shape) for name, shape in facts["text"]["shapes"].items()}
        self.text = BaseText(**facts["text"] | {"shapes": shapes})
        self.tokenizer = PlainTokenizer(TokenizerState(**self.text.tokenizer), self.text.template)
        self.encoding = FastEncoding.from_dict(self.text.encoding)

    def make_runner(self, config: RunnerConfig) -> tuple[NativeRunner, str]:
        """As `runners.choice.make_runner`; the runner was checked when the model was prepared."""
        budget = config.kv_bytes or max(default_kv_bytes("cpu"), 2 * self.text.token_bytes * config.context_length)
        try:
            runner = NativeRunner(self._code, self._packed, replace(config, kv_bytes=budget))
        except CacheTooSmall as err:
            raise ModelUnavailable(f"{err} Set SLM_KV_MEMORY higher or SLM_CONTEXT lower.") from err
        return runner, runner.number_format

    def close(self) -> None:
        """Free the memory and unmap the file."""
        self._packed.close()


def find_prepared(config: EngineConfig, base_id: str) -> PreparedModel | None:
    """Return the prepared model for these settings; None if there is none, or another runner might be chosen.

    Args:
        config: how to load and serve the model.
        base_id: the hash of the base model's files.
    """
    precision = _PRECISIONS.get(config.dtype)
    is_for_cpu = config.device == "cpu" or (config.device == "auto" and not may_have_accelerator())
    if precision is None or not is_for_cpu:
        return None
    try:
        code = NativeCode.load(config.runner.build_dir, precision)
    except NativeUnavailable:
        return None
    if (mapped := map_model(_file(config, base_id, code))) is None:
        return None
    try:
        return PreparedModel(code, mapped)
    except (OSError, LookupError, TypeError, ValueError, StopIteration) as err:  # another program has written it
        mapped.close()
        logger.warning("the prepared model cannot be used and is made again: %s", err)
        return None


def keep_prepared(config: EngineConfig, base_id: str, runner: NativeRunner, text: BaseText) -> None:
    """Write a runner's model to a file for the next start; log it if that fails."""
    model = runner.model
    facts = {
        "model": model.to_facts(),
        "text": {name: getattr(text, name) for name in BaseText.__slots__},
    }
    file = _file(config, base_id, runner.code)
    try:
        write_model(file, facts, [part.view() for part in model.parts])
    except OSError as err:
        logger.warning("the model was not prepared for a faster start: %s", err)


def _file(config: EngineConfig, base_id: str, code: NativeCode) -> Path:
    versions = f"transformers {version('transformers')} tokenizers {version('tokenizers')}"
    native = f"{code.version} {code.kernels} {code.precision}"
    key = f"{base_id} {native} {config.runner.context_length} {versions} {_source_version(_SOURCES)}"
    return model_file(config.runner.build_dir, key)


@cache
def _source_version(folders: tuple[Path, ...]) -> str:
    """Return a hash of the modules in the folders: after an update they may prepare a model in another way."""
    digest = hashlib.sha256()
    for file in (file for folder in folders for file in sorted(folder.glob("*.py"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
