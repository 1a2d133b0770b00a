"""Implements `ModelRunner` with the native library."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.settings import KvCacheDtype
from worker.engine.config import RunnerConfig
from worker.engine.kv_cache.budget import affordable_blocks
from worker.engine.model_runner import OutOfMemoryError, PreparedAdapter, Row
from worker.engine.native.adapter import PackedAdapter
from worker.engine.native.build import build_library
from worker.engine.native.errors import NativeUnavailable
from worker.engine.native.kernel_sets import KERNEL_SETS, KernelSet
from worker.engine.native.library import (
    BLOCK_TOKENS,
    CacheFormat,
    LoraFormat,
    NativeLinear,
    NativeRow,
    Precision,
    available_kernels,
    load_library,
)
from worker.engine.native.memory import Memory
from worker.engine.native.packed_file import VERSION, packed_name
from worker.engine.native.packed_model import PackedModel
from worker.engine.sequence import BASE_ADAPTER

if TYPE_CHECKING:
    from torch import Tensor

    from worker.engine.lora import AdapterWeights

logger = logging.getLogger(__name__)

MAX_STEP_TOKENS = 512  # per native call; longer inputs are split
MAX_DRAFT_TOKENS = 8  # verifying them together costs less than one more step
# The first blocks of the cache are populated at the start: in a virtual machine a new page can cost 2 ms, a quarter of
# the time of the first long prompts.
WARM_CACHE_BYTES, WARM_CACHE_PART = 64 << 20, 4
PRECISIONS = {"fp32": Precision.FP32, "int8": Precision.INT8}
NUMBER_FORMATS = {"fp32": "float32", "int8": "int8"}  # as `SLM_DTYPE` has them
CACHE_FORMATS: dict[KvCacheDtype, CacheFormat] = {"auto": CacheFormat.AUTO, "int8": CacheFormat.INT8}


@dataclass(frozen=True, eq=False, slots=True)
class NativeCode:
    """The library, and the kernels and the number format with which a runner computes.

    `precision`: `fp32` is exact; `int8` has 8-bit weights with a scale for every 64 of them.
    """

    library: ctypes.CDLL
    version: str  # changes with the sources and with the compiler
    kernels: str
    precision: Literal["fp32", "int8"]

    @classmethod
    def load(cls, build_dir: Path, precision: Literal["fp32", "int8"], kernels: str | None = None) -> NativeCode:
        """Build the library, unless that was done before, and choose the kernel set.

        Args:
            build_dir: folder of the library.
            precision: number format of the weights.
            kernels: name of the kernel set; default: the best that this CPU can run.

        Raises:
            NativeUnavailable: there is no compiler, or the kernel set is not available: use another runner.
        """
        file = build_library(build_dir)
        library = load_library(file)
        return cls(library, file.stem, _choose_kernels(available_kernels(library), kernels), precision)


class NativeRunner:
    """Runs a Llama-like or GPT-2 model on the CPU with one native call per step.

    A row's logits are bitwise the same alone, in any batch, with any chunks of its prefill and any number of threads.

    Args:
        code: the native code.
        model: packed for that code; the runner owns it from now on.
        config: its limits and resources. The calling thread is one of `num_threads`; the others sleep between steps.
            Most of `kv_bytes` is allocated only as tokens are written.

    Raises:
        CacheTooSmall: `kv_bytes` does not hold one full sequence.
        MemoryError: there is not enough memory.
    """

    block_tokens = BLOCK_TOKENS
    max_draft_tokens = MAX_DRAFT_TOKENS
    can_overlap = False

    def __init__(self, code: NativeCode, model: PackedModel, config: RunnerConfig) -> None:
        self.max_num_seqs = max_num_seqs = config.max_num_seqs
        self.context_length = config.context_length
        self.code, self.model = code, model
        self._kv_cache_dtype = config.kv_cache_dtype
        self._library = code.library
        kernel_set = KERNEL_SETS[code.kernels]
        self.mixed_chunk, self.short_prompt = kernel_set.mixed_chunk, kernel_set.short_prompt
        self._lora_format = _lora_format(code.precision, kernel_set)
        self._adapters: dict[str, PackedAdapter | None] = {BASE_ADAPTER: None}
        self.vocab_size = model.native.vocab_size
        cache_format = CACHE_FORMATS[config.kv_cache_dtype]
        self.block_bytes: int = self._library.slm_block_size(model.native, code.kernels.encode(), cache_format)
        self._max_row_blocks = _blocks_for(config.context_length)
        self.num_blocks = affordable_blocks(self.block_bytes, self._max_row_blocks, config)
        self._cache = Memory(self.num_blocks * self.block_bytes)
        self._cache.populate(min(WARM_CACHE_BYTES, self._cache.size // WARM_CACHE_PART))
        self._tables = (ctypes.c_int32 * (max_num_seqs * self._max_row_blocks))()  # one table per row of a step
        self._rows = (NativeRow * max_num_seqs)()
        self._token_ids = (ctypes.c_int32 * MAX_STEP_TOKENS)()
        # Rows that are never written take no memory.
        self._logits = np.empty((max_num_seqs * (1 + self.max_draft_tokens), self.vocab_size), np.float32)
        self._handle = self._library.slm_create(
            *(model.native, code.kernels.encode(), cache_format, self._cache.address),
            *(MAX_STEP_TOKENS, max_num_seqs, config.num_threads),
        )
        if not self._handle:
            raise MemoryError("The native runner could not allocate memory or start its threads.")
        logger.info(
            "Native runner, %s: %s kernels, %d threads, %.0f MB of weights, %d sequences over %d blocks of %d tokens.",
            *(self.number_format, code.kernels, config.num_threads, model.packed_bytes / 1e6),
            *(max_num_seqs, self.num_blocks, BLOCK_TOKENS),
        )

    @classmethod
    def pack(
        cls,
        model_config: Any,
        tensors: Mapping[str, Tensor],
        config: RunnerConfig,
        *,
        precision: Literal["fp32", "int8"],
        kernels: str | None = None,
    ) -> NativeRunner:
        """Return a runner over a checkpoint, whose weights it packs.

        Args:
            model_config: the model's `PreTrainedConfig`.
            tensors: the checkpoint's tensors by their names in transformers, without adapters; a model's
                `state_dict()`, or a mapping that loads on access.
            config: as of the class.
            precision, kernels: as of `NativeCode.load`.

        Raises:
            NativeUnavailable: there is no compiler, or the kernel set is not available: use another runner.
            UnsupportedModelError: the native code does not support this model: use another runner.
            CacheTooSmall, MemoryError: as of the class.
            ValueError: the weights are not finite.
        """
        from worker.engine.native.weights import pack_model

        code = NativeCode.load(config.build_dir, precision, kernels)
        model = pack_model(
            code.library,
            model_config,
            tensors,
            context_length=config.context_length,
            precision=PRECISIONS[precision],
            kernels=code.kernels,
            threads=config.num_threads,
        )
        return cls(code, model, config)

    @property
    def kernels(self) -> str:
        """The name of the kernel set."""
        return self.code.kernels

    @property
    def number_format(self) -> str:
        """The name of the number format; all runners of one format on one kernel set give the same bits."""
        weights = NUMBER_FORMATS[self.code.precision]
        return weights if self._kv_cache_dtype == "auto" else f"{weights} with a cache in {self._kv_cache_dtype}"

    @property
    def packed_bytes(self) -> int:
        """Size of all packed weights in bytes, which every step reads."""
        return self.model.packed_bytes

    @property
    def first_matrix(self) -> NativeLinear:
        """A matrix of the model, for `multiply`."""
        matrix: NativeLinear = self.model.native.layers[0].query_key_value
        return matrix

    def multiply(self, matrix: NativeLinear, x: Tensor, y: Tensor) -> None:
        """Compute y = x W^T + b for one matrix like in a step, for tests and benchmarks.

        Args:
            matrix: of this runner's model.
            x: float32 [rows, matrix.columns], contiguous, at most `MAX_STEP_TOKENS` rows.
            y: float32 [rows, matrix.rows], contiguous.
        """
        self._library.slm_linear_forward(self._handle, matrix, x.data_ptr(), x.shape[0], y.data_ptr())

    def forward(self, rows: list[Row]) -> NDArray[np.float32]:
        """Compute the rows; see `ModelRunner.forward`.

        Returns:
            A view of the runner's buffer, which the next forward overwrites.

        Raises:
            ValueError: a row has no token, an unknown adapter, a token outside the vocabulary, or too few blocks.
                Nothing was computed.
        """
        for row in rows:
            self._check(row)
        num_logits = 0
        for step in _split_into_steps(rows, MAX_STEP_TOKENS):
            num_logits += self._run(step, num_logits)
        return self._logits[:num_logits]

    def copy_block(self, source: int, target: int, num_tokens: int) -> None:  # noqa: ARG002 - whole blocks are copied
        """As `ModelRunner.copy_block`."""
        begin = self._cache.address
        ctypes.memmove(begin + target * self.block_bytes, begin + source * self.block_bytes, self.block_bytes)

    @property
    def adapters(self) -> Collection[str]:
        """As `ModelRunner.adapters`."""
        return self._adapters.keys()

    def prepare_adapter(self, weights: AdapterWeights) -> PackedAdapter:
        """As `ModelRunner.prepare_adapter`: pack the matrices."""
        try:
            return PackedAdapter.pack(weights, self.model.shapes, self._lora_format)
        except OSError as err:
            raise OutOfMemoryError(f"There is not enough memory for the adapter: {err}") from err

    def restore_adapter(self, folder: Path) -> PackedAdapter | None:
        """As `KeepsPreparedAdapters.restore_adapter`."""
        try:
            return PackedAdapter.read(folder / self._packed_name, self.model.shapes, self._lora_format)
        except OSError as err:
            raise OutOfMemoryError(f"There is not enough memory for the adapter: {err}") from err

    def keep_adapter(self, prepared: PreparedAdapter, folder: Path) -> None:
        """As `KeepsPreparedAdapters.keep_adapter`."""
        assert isinstance(prepared, PackedAdapter)  # noqa: S101 - of this runner
        try:
            prepared.write(folder / self._packed_name)
        except OSError as err:
            logger.warning("A packed adapter was not kept in %s: %s", folder, err)

    @cached_property
    def _packed_name(self) -> str:
        """The name of an adapter's file; adapters of another base or number format have others."""
        return packed_name(f"{VERSION} {self._lora_format.name} {self.model.shapes}")

    def add_adapter(self, adapter_id: str, prepared: PreparedAdapter) -> None:
        """As `ModelRunner.add_adapter`."""
        if adapter_id in self._adapters:
            raise ValueError(f"There is an adapter {adapter_id!r} already.")
        if not isinstance(prepared, PackedAdapter) or prepared.is_closed:
            raise ValueError(f"The adapter {adapter_id!r} was not prepared by this runner, or was closed.")
        if not self._library.slm_reserve_ranks(self._handle, prepared.max_ranks):
            raise OutOfMemoryError(f"There is not enough memory for an adapter of {prepared.max_ranks} ranks.")
        self._adapters[adapter_id] = prepared

    def remove_adapter(self, adapter_id: str) -> None:
        """As `ModelRunner.remove_adapter`."""
        adapter = self._adapters.get(adapter_id)
        if adapter is None:
            raise ValueError(f"There is no adapter {adapter_id!r}.")
        del self._adapters[adapter_id]
        adapter.close()

    def close(self) -> None:
        """Stop the threads and free all memory."""
        self._library.slm_destroy(self._handle)
        for adapter_id in self._adapters.keys() - {BASE_ADAPTER}:
            self.remove_adapter(adapter_id)
        self._cache.close()
        self.model.close()
        del self._logits

    def _check(self, row: Row) -> None:
        """Check the inputs that the native code does not check."""
        if not row.num_draft_tokens < len(row.token_ids):
            raise ValueError("A row has no token besides draft tokens.")
        if row.num_draft_tokens > self.max_draft_tokens:
            raise ValueError(f"A row has {row.num_draft_tokens} draft tokens; the limit is {self.max_draft_tokens}.")
        row.check_tokens(self.vocab_size)
        if row.adapter not in self._adapters:
            raise ValueError(f"A row has the adapter {row.adapter!r}, which was not added.")
        if not _blocks_for(row.start + len(row.token_ids)) <= len(row.blocks) <= self._max_row_blocks:
            raise ValueError(
                f"A row has {len(row.blocks)} blocks for {row.start} + {len(row.token_ids)} tokens; "
                f"the limit is {self._max_row_blocks} blocks."
            )
        if not 0 <= min(row.blocks) <= max(row.blocks) < self.num_blocks:
            raise ValueError(f"A row has a block outside the cache of {self.num_blocks} blocks.")

    def _run(self, rows: list[Row], first_logits: int) -> int:
        """Compute at most `MAX_STEP_TOKENS` tokens; return the number of rows of logits written."""
        num_tokens = 0
        for index, (native, row) in enumerate(zip(self._rows, rows, strict=False)):
            end = num_tokens + len(row.token_ids)
            self._token_ids[num_tokens:end] = list(row.token_ids)
            native.num_tokens, native.start = len(row.token_ids), row.start
            native.num_logits = row.num_logits
            native.block_table = self._write_table(index, row.blocks)
            adapter = self._adapters[row.adapter]
            native.adapter = None if adapter is None else adapter.address
            num_tokens = end
        self._library.slm_forward(
            *(self._handle, self._rows, len(rows), ctypes.addressof(self._token_ids)),
            self._logits[first_logits:].ctypes.data,
        )
        return sum(row.num_logits for row in rows)

    def _write_table(self, index: int, blocks: tuple[int, ...]) -> int:
        """Write a row's block table and return its address."""
        begin = index * self._max_row_blocks
        self._tables[begin : begin + len(blocks)] = list(blocks)
        return ctypes.addressof(self._tables) + begin * ctypes.sizeof(ctypes.c_int32)


def _lora_format(precision: str, kernels: KernelSet) -> LoraFormat:
    """Return the number format of adapters: exact for an exact model, else small, since steps wait for memory."""
    return LoraFormat.FP32 if precision == "fp32" else kernels.int8_lora


def _choose_kernels(available: list[str], wanted: str | None) -> str:
    if wanted is None:
        return available[0]
    if wanted not in available:
        raise NativeUnavailable(f"The {wanted} kernels do not run on this CPU; available: {', '.join(available)}.")
    return wanted


def _split_into_steps(rows: list[Row], max_tokens: int) -> Iterator[list[Row]]:
    """Split the rows into steps of at most `max_tokens` tokens, in order."""
    step: list[Row] = []
    room = max_tokens
    for row in rows:
        for part in [row] if row.num_draft_tokens or row.is_scored else _parts(row, room, max_tokens):
            if len(part.token_ids) > room:
                yield step
                step, room = [], max_tokens
            step.append(part)
            room -= len(part.token_ids)
    yield step


def _parts(row: Row, first_length: int, length: int) -> Iterator[Row]:
    """Split a row: first `first_length` tokens (if not 0), then `length` tokens per part."""
    count = len(row.token_ids)
    begin = 0
    end = min(first_length or length, count)
    while begin < count:
        yield Row(
            blocks=row.blocks,
            token_ids=row.token_ids[begin:end],
            start=row.start + begin,
            adapter=row.adapter,
            needs_logits=row.needs_logits and end == count,
        )
        begin, end = end, min(end + length, count)


def _blocks_for(num_tokens: int) -> int:
    """Return how many blocks that many tokens need."""
    return -(-num_tokens // BLOCK_TOKENS)
