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

from common.errors import ModelUnavailable, SLMError
from models.adapter.check import AdapterError, AdapterInfo
from models.text.text_encoder import FastEncoding
from worker.engine.config import EngineConfig, RunnerConfig
from worker.engine.engine import Deliver, Engine, TokenSampler
from worker.engine.grammar.compiler import GrammarCompiler
from worker.engine.kv_cache.budget import sequence_bytes
from worker.engine.loading.errors import LOAD_ERRORS, UnusableFiles
from worker.engine.loading.prepared import BaseText, PreparedModel, find_prepared, keep_prepared, plain_state
from worker.engine.loading.texts import ModelText, ModelTexts, TokenizerDecoder
from worker.engine.loading.tokenizer import (
    declared_end_ids,
    end_token_ids,
    warn_if_larger,
)
from worker.engine.model_runner import (
    DeviceLostError,
    KeepsPreparedAdapters,
    ModelRunner,
    OutOfMemoryError,
    PreparedAdapter,
    UnsupportedAdapter,
)
from worker.engine.native.runner import NativeRunner
from worker.engine.overlap_engine import OverlapEngine
from worker.engine.prompts.prompt import PromptRenderer
from worker.engine.sampling.host import HostSampler
from worker.engine.untrusted_code.client import TakesTooMuch, UntrustedPrograms
from worker.engine.untrusted_code.services import PROGRAMS, SERVICES
from worker.helper.client import Helper

logger = logging.getLogger(__name__)


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
    model: Any  # a `PreTrainedModel`, or a `PreparedModel`; None after `start_engine`
    tokenizer: Any
    renderer: PromptRenderer
    declared_end_ids: frozenset[int]  # the tokens that end an answer, by the model's settings
    context_length: int  # maximum tokens of prompt and answer that the model supports
    device: str  # its type
    shapes: dict[str, tuple[int, ...]]  # of the weights
    helper: Helper
    programs: UntrustedPrograms
    dtype: str = field(init=False)  # number format of the computation; set by `start_engine`
    texts: ModelTexts = field(init=False)  # set by `start_engine`
    _token_bytes: int = field(default=0, init=False)  # of keys and values, if a native runner was newly made
    _runner: ModelRunner | None = field(default=None, init=False)
    _engine: Engine | None = field(default=None, init=False)

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
        self._runner, self.dtype = self._make_runner(runner_config)
        self.model = None  # the runner has taken what it needs
        _release_memory()
        self.texts = self._texts(self._runner.vocab_size)
        engine_type = OverlapEngine if self._runner.can_overlap else Engine
        self._engine = engine_type(
            self._runner,
            _sampler(self._runner),
            decoder=self.texts.base.decoder,
            eos_token_ids=self.texts.base.eos_token_ids,
            deliver=deliver,
            on_fatal=on_fatal,
            prefill_chunk=self.config.prefill_chunk,
        )
        self._engine.start()
        return self._engine

    def _make_runner(self, config: RunnerConfig) -> tuple[ModelRunner, str]:
        if isinstance(self.model, PreparedModel):
            return self.model.make_runner(config)
        from worker.engine.runners.choice import make_runner

        runner, dtype = make_runner(self.model, config, self.config.dtype)
        if isinstance(runner, NativeRunner):
            self._token_bytes = sequence_bytes(self.model.config.get_text_config(), 1, self.model.dtype.itemsize)
        return runner, dtype

    def keep_prepared(self, base_id: str) -> None:
        """Write what `load_prepared` needs to a file, if the model runs natively and was not loaded from that file.

        Args:
            base_id: the hash of the base model's files, which must not have changed since before the load.
        """
        runner = self._runner
        if not isinstance(runner, NativeRunner) or not self._token_bytes:
            return
        state, encoding = plain_state(self.tokenizer), self.renderer.parts.texts.encoding
        if state is None or not isinstance(encoding, FastEncoding):
            return
        text = BaseText(
            tokenizer=state.to_dict(),
            encoding=encoding.to_dict(),
            template=self.tokenizer.chat_template,
            declared_end_ids=sorted(self.declared_end_ids),
            context_length=self.context_length,
            token_bytes=self._token_bytes,
            shapes=self.shapes,
        )
        keep_prepared(self.config, base_id, runner, text)

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
        from worker.engine.loading.base_files import base_weight, keep_to_one_thread
        from worker.engine.lora import read_adapter

        if isinstance(runner, NativeRunner):
            keep_to_one_thread()
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
        elif isinstance(self.model, PreparedModel):
            self.model.close()
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
    from worker.engine.loading.pretrained import read_model

    with _with_programs(source, base_name) as (helper, programs):
        model, tokenizer, context_length = read_model(source, config)
        warn_if_larger(tokenizer, model.get_input_embeddings().num_embeddings)
        return EngineModel(
            config=config,
            source=source,
            base_name=base_name,
            model=model,
            tokenizer=tokenizer,
            renderer=PromptRenderer(tokenizer, None, programs),
            declared_end_ids=declared_end_ids(model),
            context_length=context_length,
            device=model.device.type,
            shapes={name: tuple(value.shape) for name, value in model.state_dict().items()},
            helper=helper,
            programs=programs,
        )


def load_prepared(source: str, config: EngineConfig, *, base_name: str, base_id: str) -> EngineModel | None:
    """As `load_model`, from the file of a prepared model; None if there is none.

    Args:
        source, config, base_name: as of `load_model`.
        base_id: the hash of the base model's files.
    """
    with _with_programs(source, base_name) as (helper, programs):
        if (prepared := find_prepared(config, base_id)) is None:
            helper.close()
            return None
        logger.info("the model was prepared before: its weights are not read")
        with ExitStack() as undo:
            undo.callback(prepared.close)
            renderer = PromptRenderer(prepared.tokenizer, None, programs, encoding=prepared.encoding)
            undo.pop_all()
        return EngineModel(
            config=config,
            source=source,
            base_name=base_name,
            model=prepared,
            tokenizer=prepared.tokenizer,
            renderer=renderer,
            declared_end_ids=frozenset(prepared.text.declared_end_ids),
            context_length=prepared.text.context_length,
            device="cpu",
            shapes=prepared.text.shapes,
            helper=helper,
            programs=programs,
        )


@contextmanager
def _with_programs(source: str, base_name: str) -> Iterator[tuple[Helper, UntrustedPrograms]]:
    """Start a helper, in parallel with the loading; close it if the loading fails."""
    with ExitStack() as undo, _as_model_unavailable(source, base_name):
        helper = undo.enter_context(closing(Helper(SERVICES)))
        helper.configure(PROGRAMS, value=True)
        helper.start()
        yield helper, UntrustedPrograms(helper)
        undo.pop_all()


def _sampler(runner: ModelRunner) -> TokenSampler:
    """Return the sampler for the runner's logits."""
    if isinstance(runner, NativeRunner):
        return HostSampler()
    from worker.engine.sampling.sampler import Sampler

    return Sampler()


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


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if line.endswith(".") else f"{line}."


def _release_memory() -> None:
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # glibc keeps freed memory otherwise
