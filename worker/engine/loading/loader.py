"""Loads a model into memory and frees it."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from common.errors import ModelUnavailable, SLMError
from common.settings import Device, Dtype
from models.adapter.check import AdapterError, AdapterInfo
from models.context import declared_context
from models.errors import UnspellableText
from worker.engine.config import EngineConfig
from worker.engine.engine import Deliver, Engine
from worker.engine.grammar.compiler import GrammarCompiler
from worker.engine.loading.base_files import base_weight
from worker.engine.loading.texts import ModelText, ModelTexts, TokenizerDecoder
from worker.engine.loading.tokenizer import (
    UnusableFiles,
    declared_end_ids,
    end_token_ids,
    load_tokenizer,
    warn_if_larger,
)
from worker.engine.lora import read_adapter
from worker.engine.model_runner import (
    DeviceLostError,
    KeepsPreparedAdapters,
    ModelRunner,
    OutOfMemoryError,
    PreparedAdapter,
    UnsupportedAdapter,
)
from worker.engine.overlap_engine import OverlapEngine
from worker.engine.prompts.prompt import PromptRenderer
from worker.engine.runners.choice import make_runner
from worker.engine.sampling.sampler import Sampler
from worker.engine.untrusted_code.client import TakesTooMuch, UntrustedPrograms
from worker.engine.untrusted_code.services import PROGRAMS, SERVICES
from worker.helper.client import Helper

logger = logging.getLogger(__name__)

DEFAULT_CONTEXT = 2048  # tokens, for a model that does not declare its context
LOAD_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    ImportError,
    SafetensorError,
    TemplateError,
    UnspellableText,
)


@dataclass(frozen=True, eq=False)
class EngineAdapter:
    """An adapter that the engine's sequences can use. `close` removes it: no sequence uses it any more."""

    text: ModelText
    num_bytes: int
    close: Callable[[], None]


@dataclass
class EngineModel:
    """A base model in memory. `close` frees the memory, also that of its adapters."""

    config: EngineConfig
    source: str
    base_name: str
    model: Any
    tokenizer: Any
    renderer: PromptRenderer
    declared_end_ids: frozenset[int]  # the tokens that end an answer, by the model's settings
    context_length: int  # maximum tokens of prompt and answer that the model supports
    device: torch.device
    helper: Helper
    programs: UntrustedPrograms
    shapes: dict[str, tuple[int, ...]] = field(init=False)  # of the weights
    dtype: str = field(init=False)  # number format of the computation; set by `start_engine`
    texts: ModelTexts = field(init=False)  # set by `start_engine`
    _runner: ModelRunner | None = field(default=None, init=False)
    _engine: Engine | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.shapes = {name: tuple(value.shape) for name, value in self.model.state_dict().items()}

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The tokens that end an answer of the bare base model."""
        return end_token_ids(self.declared_end_ids, self.tokenizer, self.renderer.template)

    def start_engine(self, deliver: Deliver, on_fatal: Callable[[Exception], None]) -> Engine:
        """Start an engine with this model; call once. See `Engine` for the arguments.

        Raises:
            ModelUnavailable: the model cannot be served, or not within the limits of its `config`.
        """
        self.context_length = min(self.context_length, self.config.runner.context_length)
        runner_config = replace(self.config.runner, context_length=self.context_length)
        self._runner, self.dtype = make_runner(self.model, runner_config, self.config.dtype)
        self.model = None  # the runner has taken what it needs
        _release_memory()
        self.texts = self._texts(self._runner.vocab_size)
        engine_type = OverlapEngine if self._runner.can_overlap else Engine
        self._engine = engine_type(
            self._runner,
            Sampler(),
            decoder=self.texts.base.decoder,
            eos_token_ids=self.texts.base.eos_token_ids,
            deliver=deliver,
            on_fatal=on_fatal,
            prefill_chunk=self.config.prefill_chunk,
        )
        self._engine.start()
        return self._engine

    def _texts(self, vocab_size: int) -> ModelTexts:
        decoder, ends = TokenizerDecoder(self.tokenizer), self.eos_token_ids
        grammars = GrammarCompiler(self.helper, decoder, vocab_size, ends)
        base = ModelText(self.tokenizer, self.renderer, decoder, ends, grammars)
        return ModelTexts(self.source, base, self.declared_end_ids, vocab_size, self.helper, self.programs)

    def load_adapter(self, adapter_id: str, folder: Path, *, never_changes: bool = False) -> EngineAdapter:
        """Load a LoRA adapter and add it to the engine, which runs meanwhile.

        Args:
            adapter_id: identifies its content.
            folder: a PEFT folder.
            never_changes: whether its content never changes; then the prepared adapter is kept in it for the next load.

        Raises:
            ModelUnavailable: it does not exist, or cannot be served on this base model.
            Conflict: the engine is stopping.
        """
        assert self._runner is not None and self._engine is not None  # noqa: S101, PT018 - the engine was started
        runner, engine = self._runner, self._engine
        with _as_adapter_unavailable(folder), ExitStack() as undo:
            text = self.texts.acquire(folder)
            undo.callback(self.texts.release, text)
            prepared = self._prepared(runner, folder) if never_changes else self._newly_prepared(runner, folder)
            undo.callback(prepared.close)
            engine.add_adapter(adapter_id, prepared, decoder=text.decoder, eos_token_ids=text.eos_token_ids)
            undo.pop_all()

        def close() -> None:
            engine.remove_adapter(adapter_id)
            self.texts.release(text)

        return EngineAdapter(text, prepared.num_bytes, close)

    def _prepared(self, runner: ModelRunner, folder: Path) -> PreparedAdapter:
        """Check and prepare an adapter, or restore it if a worker has done so before."""
        if not isinstance(runner, KeepsPreparedAdapters):
            return self._newly_prepared(runner, folder)
        if (kept := runner.restore_adapter(folder)) is not None:
            return kept
        info = self._checked(folder)
        prepared = self._from_files(runner, info)
        if not info.base_layers:  # these are compared with the base's own weights each time
            runner.keep_adapter(prepared, folder)
        return prepared

    def _newly_prepared(self, runner: ModelRunner, folder: Path) -> PreparedAdapter:
        return self._from_files(runner, self._checked(folder))

    def _from_files(self, runner: ModelRunner, info: AdapterInfo) -> PreparedAdapter:
        return runner.prepare_adapter(read_adapter(info, partial(base_weight, self.source)))

    def _checked(self, folder: Path) -> AdapterInfo:
        info = self.programs.check_adapter(folder, self.base_name, self.shapes)
        if info.warning is not None:
            logger.warning("%s", info.warning)
        return info

    def close(self) -> None:
        """Stop the engine and return the memory to the system. The object cannot be used afterwards."""
        self.helper.close()
        if self._engine is not None:
            self.texts.close()
            self._engine.stop()
        if self._runner is not None:
            self._runner.close()
        self.model = self.tokenizer = self._engine = self._runner = None
        _release_memory()


def load_model(source: str, config: EngineConfig, *, base_name: str) -> EngineModel:
    """Load a base model.

    Weights are read only from safetensors, and no code of a model is executed. A model from the hub is read from the
    local cache if it is there, so that a restart does not need the hub.

    Args:
        source: a local folder or a hub id.
        config: how to load the model and how its engine will serve it.
        base_name: the model's name for users.

    Raises:
        ModelUnavailable: the model or device does not exist.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    device, device_reason = choose_device(config.device)
    dtype, dtype_reason = choose_dtype(config.dtype, device)
    logger.info("device=%s (%s) dtype=%s (%s)", device, device_reason, dtype, dtype_reason)
    with ExitStack() as undo, _as_model_unavailable(source, base_name):
        helper = undo.enter_context(closing(Helper(SERVICES)))
        helper.configure(PROGRAMS, value=True)
        helper.start()  # in parallel with the loading
        programs = UntrustedPrograms(helper)
        model, tokenizer = _from_pretrained(source, dtype)
        _check_finite(model, source)
        warn_if_larger(tokenizer, model.get_input_embeddings().num_embeddings)
        renderer = PromptRenderer(tokenizer, None, programs)
        model = model.to(device).eval().requires_grad_(requires_grad=False)
        undo.pop_all()
    return EngineModel(
        config=config,
        source=source,
        base_name=base_name,
        model=model,
        tokenizer=tokenizer,
        renderer=renderer,
        declared_end_ids=declared_end_ids(model),
        context_length=context_limit(model.config.get_text_config(), tokenizer),
        device=device,
        helper=helper,
        programs=programs,
    )


@contextmanager
def _as_model_unavailable(source: str, base_name: str) -> Iterator[None]:
    """Raise `ModelUnavailable` for all errors in a model's files."""
    try:
        yield
    except UnusableFiles as error:
        raise ModelUnavailable(f"Base model {base_name!r} cannot be served: {error}") from error
    except TakesTooMuch as error:
        raise ModelUnavailable(
            f"Base model {base_name!r} cannot be served: {error}. Put another template into {source!r}, as "
            "chat_template.jinja."
        ) from error
    except LOAD_ERRORS as error:
        raise ModelUnavailable(
            f"Base model {base_name!r} cannot be loaded from {source!r}: {_first_line(error)} Set SLM_BASE_MODEL to a "
            "local folder with a model in safetensors format, or to a hub id that can be reached from here."
        ) from error


@contextmanager
def _as_adapter_unavailable(folder: Path) -> Iterator[None]:
    """Raise `ModelUnavailable` for all errors in an adapter's files."""
    try:
        yield
    except (SLMError, DeviceLostError):
        raise
    except AdapterError as error:
        raise ModelUnavailable(str(error)) from error
    except (UnusableFiles, TakesTooMuch, UnsupportedAdapter, OutOfMemoryError, *LOAD_ERRORS) as error:
        raise ModelUnavailable(f"Adapter {str(folder)!r} cannot be served: {_first_line(error)}") from error


def choose_device(wish: Device) -> tuple[torch.device, str]:
    """Return the device and the reason for it.

    Raises:
        ModelUnavailable: the requested device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wish == "auto":
        return torch.device(next(name for name in available if available[name])), "the best available"
    if not available[wish]:
        raise ModelUnavailable(f"This machine has no {wish} device. Set SLM_DEVICE to auto or cpu.")
    return torch.device(wish), "as configured"


def choose_dtype(wish: Dtype, device: torch.device) -> tuple[torch.dtype, str]:
    """Return the number format in which to read the weights, and the reason for it. int8 is quantised afterwards.

    Raises:
        ModelUnavailable: the device does not support the requested format.
    """
    if wish == "int8":
        if device.type != "cpu":
            raise ModelUnavailable(f"int8 runs on the CPU only. Set SLM_DTYPE to auto for {device.type}.")
        return torch.float32, "to be quantised"
    if wish != "auto":
        dtype: torch.dtype = getattr(torch, wish)
        return dtype, "as configured"
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "half the memory traffic with float32's range"
    if device.type in ("cuda", "mps"):
        return torch.float16, "half the memory traffic; this device computes no bfloat16"
    return torch.float32, "exact; made int8 where the native kernels run"


def context_limit(config: Any, tokenizer: Any) -> int:
    """Return the maximum number of tokens that the model supports."""
    limit = declared_context(config) or min(tokenizer.model_max_length, DEFAULT_CONTEXT)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        # Beyond this length the encoding of all earlier positions changes, which cached keys cannot follow.
        limit = min(limit, rope.get("original_max_position_embeddings") or limit)
    return int(limit)


def _from_pretrained(source: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load model and tokenizer from the folder or the hub's cache if possible, else from the hub."""
    try:
        return _load(source, dtype, local_files_only=True)
    except (*LOAD_ERRORS, UnusableFiles):  # an incomplete cache fails in many ways
        if Path(source).is_dir():
            raise
        return _load(source, dtype, local_files_only=False)


def _load(source: str, dtype: torch.dtype, *, local_files_only: bool) -> tuple[Any, Any]:
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local_files_only}
    config = AutoConfig.from_pretrained(source, **options)
    tokenizer = load_tokenizer(source, **options)
    model_class: Any = AutoModelForCausalLM
    model, report = model_class.from_pretrained(
        source, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
    )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"its weights are incomplete, {len(missing)} are missing, e.g. {missing[0]}.")
    return model, tokenizer


def _check_finite(model: Any, source: str) -> None:
    """Check that all weights are finite: a single NaN would silently spoil all answers that it affects."""
    for name, weight in model.named_parameters():
        if weight.numel() and not torch.stack(torch.aminmax(weight)).isfinite().all():
            raise UnusableFiles(
                f"the weights in {source!r} are broken: {name} holds values that are not finite numbers (NaN or "
                "infinite). Get them again, or train the model again if they are your own."
            )


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if line.endswith(".") else f"{line}."


def _release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # glibc keeps freed memory otherwise
