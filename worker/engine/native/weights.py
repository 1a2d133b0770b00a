"""Packs a checkpoint's tensors into the memory of the native model, one tensor at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from worker.engine.checkpoints.architecture import Architecture, Layer, Linear, NormKind, describe
from worker.engine.checkpoints.checkpoint import Checkpoint
from worker.engine.checkpoints.rotary import rotary_tables
from worker.engine.model_runner import UnsupportedModelError
from worker.engine.native.library import (
    EmbeddingKind,
    NativeLayer,
    NativeLinear,
    NativeModel,
    NativeNorm,
    Precision,
)
from worker.engine.native.memory import Memory
from worker.engine.native.packed_model import HEAD, BaseMatrix, BaseShapes, PackedModel, Part

ALIGNMENT = 64  # bytes, of each packed matrix
WIDTH_MULTIPLE = 16  # all widths are multiples of it: the rows of a panel, and the longest vector
MAX_HEAD_SIZE = 256
ROWS_PER_CALL = 1024  # packed by one thread at a time


def pack_model(
    library: ctypes.CDLL,
    config: Any,
    tensors: Mapping[str, Tensor],
    *,
    context_length: int,
    precision: Precision,
    kernels: str,
    threads: int,
) -> PackedModel:
    """Pack a model.

    Args:
        config: the model's `PreTrainedConfig`.
        tensors: the checkpoint's tensors by their names in transformers, without adapters. Each is read once (twice if
            embedding and head are tied) and not kept, so a mapping that loads on access saves memory.
        context_length: number of positions in the position tables.
        kernels: name of the kernel set to pack for.
        threads: number of threads that pack.

    Raises:
        UnsupportedModelError: the native code does not support this model, or a tensor is missing or has a wrong shape.
        ValueError: a matrix has values that are not finite.
    """
    architecture = describe(config)
    _check_sizes(architecture)
    packer = _Packer(library, architecture, tensors, precision, kernels)
    try:
        with ThreadPoolExecutor(threads) as pool:
            native = packer.pack(config, context_length, pool)
    except BaseException:
        packer.close()
        raise
    return packer.packed(native)


class _Packer:
    """Packs one model."""

    def __init__(
        self,
        library: ctypes.CDLL,
        architecture: Architecture,
        tensors: Mapping[str, Tensor],
        precision: Precision,
        kernels: str,
    ) -> None:
        self.architecture = architecture
        self._library = library
        self._checkpoint = Checkpoint(self.architecture, tensors, torch.float32, torch.device("cpu"))
        self._precision = precision
        self._kernels = kernels.encode()
        self._referenced: list[Tensor] = []  # tensors outside the packed memory that `native` points to
        self._next_offset = 0
        self._matrices: list[BaseMatrix] = []
        self._memory = Memory(sum(self._packed_size(linear) for linear in _linears(self.architecture)))

    def packed(self, native: NativeModel) -> PackedModel:
        """Return the model, which keeps the memory but not the checkpoint."""
        memory, referenced = self._memory, self._referenced
        kept = [Part(tensor.data_ptr(), tensor.nbytes) for tensor in referenced]

        def close() -> None:
            referenced.clear()
            memory.close()

        return PackedModel(native, self._shapes(native), memory.size, [Part(memory.address, memory.size), *kept], close)

    def close(self) -> None:
        """Free the memory."""
        self._memory.close()

    def _shapes(self, native: NativeModel) -> BaseShapes:
        parts = self.architecture
        num_entries = {parts.embedding: parts.vocab_size}
        if parts.position_embedding is not None:
            num_entries[parts.position_embedding] = native.context_length
        return BaseShapes(self._matrices, parts.embedding, parts.position_embedding, parts.hidden_size, num_entries)

    def pack(self, config: Any, context_length: int, pool: ThreadPoolExecutor) -> NativeModel:
        """Pack all tensors with the threads of the pool."""
        self._pool = pool
        parts = self.architecture
        layers = (NativeLayer * len(parts.layers))(*(self._layer(layer) for layer in parts.layers))
        head = self._linear(parts.head)
        native = NativeModel(
            num_layers=len(parts.layers),
            **{name: getattr(parts, name) for name in ("hidden_size", "intermediate_size", "num_heads")},
            **{name: getattr(parts, name) for name in ("num_kv_heads", "head_size", "vocab_size")},
            context_length=context_length,
            precision=self._precision,
            norm_kind=parts.norm_kind,
            mlp_kind=parts.mlp_kind,
            norm_epsilon=parts.norm_epsilon,
            final_norm=self._norm(parts.final_norm),
            head=head,
            layers=layers,
        )
        self._add_embedding(native)
        self._add_positions(native, config, context_length)
        return native

    def _layer(self, layer: Layer) -> NativeLayer:
        return NativeLayer(
            attention_norm=self._norm(layer.attention_norm),
            mlp_norm=self._norm(layer.mlp_norm),
            query_norm=self._norm(layer.query_norm),
            key_norm=self._norm(layer.key_norm),
            query_key_value=self._linear(layer.query_key_value),
            attention_output=self._linear(layer.attention_output),
            mlp_input=self._linear(layer.mlp_input),
            mlp_output=self._linear(layer.mlp_output),
        )

    def _norm(self, module: str | None) -> NativeNorm:
        if module is None:
            return NativeNorm()
        weight = self._keep(self._checkpoint.read(f"{module}.weight"))
        has_bias = self.architecture.norm_kind == NormKind.LAYER_NORM
        return NativeNorm(weight=weight, bias=self._keep(self._checkpoint.read(f"{module}.bias")) if has_bias else None)

    def _linear(self, linear: Linear) -> NativeLinear:
        address = self._memory.address + self._next_offset
        self._next_offset += self._packed_size(linear)
        sizes = self._pack_modules(linear, address)
        names = (HEAD,) if linear is self.architecture.head else linear.modules
        self._matrices.append(BaseMatrix(linear.columns, dict(zip(names, sizes, strict=True))))
        return NativeLinear(panels=address, bias=self._bias(linear, sizes), rows=linear.rows, columns=linear.columns)

    def _pack_modules(self, linear: Linear, address: int) -> list[int]:
        """Pack the modules below each other; return how many rows each has."""
        sizes: list[int] = []
        for module in linear.modules:
            weight = self._checkpoint.read(f"{module}.weight")
            weight = weight.t().contiguous() if linear.is_transposed else weight
            if weight.shape[1] != linear.columns or weight.shape[0] + sum(sizes) > linear.rows:
                raise UnsupportedModelError(f"{module} has shape {tuple(weight.shape)}, which does not fit {linear}.")
            if not self._pack_rows(address, weight, sum(sizes)):
                raise ValueError(f"The tensor {module}.weight has values that are not finite.")
            sizes.append(weight.shape[0])
        if sum(sizes) != linear.rows:
            raise UnsupportedModelError(f"{linear.modules[0]} has {sum(sizes)} outputs, not {linear.rows}.")
        return sizes

    def _pack_rows(self, address: int, weight: Tensor, first_row: int) -> bool:
        """Pack a module's rows; return False if a value is not finite."""
        columns = weight.shape[1]

        def pack(start: int) -> int:
            rows = weight[start : start + ROWS_PER_CALL]
            packed: int = self._library.slm_pack_rows(
                *(self._kernels, self._precision, address),
                *(rows.data_ptr(), first_row + start, rows.shape[0], columns),
            )
            return packed

        return all(self._pool.map(pack, range(0, weight.shape[0], ROWS_PER_CALL)))

    def _bias(self, linear: Linear, sizes: list[int]) -> int | None:
        bias = None if linear is self.architecture.head else self._checkpoint.bias(linear, sizes)
        return None if bias is None else self._keep(bias)

    def _add_embedding(self, native: NativeModel) -> None:
        """Set the embedding table. int8 models use bfloat16: half the memory, and an error far below the weights'."""
        parts = self.architecture
        if parts.is_tied and self._precision == Precision.FP32:
            native.embedding_kind, native.embedding = EmbeddingKind.PANELS, native.head.panels
            return
        table = self._checkpoint.embedding()
        if self._precision == Precision.INT8:
            native.embedding_kind, table = EmbeddingKind.BF16, table.bfloat16()
        native.embedding = self._keep(table)

    def _add_positions(self, native: NativeModel, config: Any, context_length: int) -> None:
        table = self._checkpoint.positions(context_length)
        if table is not None:
            native.position_embedding = self._keep(table)
            return
        cos, sin = rotary_tables(config, self.architecture.head_size, context_length)
        native.rotary_cos, native.rotary_sin = self._keep(cos), self._keep(sin)

    def _packed_size(self, linear: Linear) -> int:
        size: int = self._library.slm_packed_size(self._kernels, self._precision, linear.rows, linear.columns)
        return -(-size // ALIGNMENT) * ALIGNMENT

    def _keep(self, tensor: Tensor) -> int:
        """Keep a copy that does not reference the checkpoint's memory, and return its address."""
        self._referenced.append(tensor.clone())
        return self._referenced[-1].data_ptr()


def _check_sizes(architecture: Architecture) -> None:
    """Raise `UnsupportedModelError` if the kernels do not support the sizes."""
    for name in ("hidden_size", "intermediate_size", "head_size"):
        value = getattr(architecture, name)
        if value % WIDTH_MULTIPLE:
            raise UnsupportedModelError(f"No native code for {name} {value}: it is not a multiple of {WIDTH_MULTIPLE}.")
    if architecture.head_size > MAX_HEAD_SIZE:
        raise UnsupportedModelError(f"No native code for head_size {architecture.head_size}.")
    if architecture.num_heads % architecture.num_kv_heads:
        raise UnsupportedModelError(
            f"No native code for {architecture.num_heads} heads over {architecture.num_kv_heads}."
        )


def _linears(architecture: Architecture) -> Iterator[Linear]:
    for layer in architecture.layers:
        yield from (layer.query_key_value, layer.attention_output, layer.mlp_input, layer.mlp_output)
    yield architecture.head
