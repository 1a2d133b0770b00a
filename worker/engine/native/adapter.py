"""Packs a LoRA adapter's matrices into the layout of the native code."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from worker.engine.lora import AdapterWeights, LoraMatrices
from worker.engine.model_runner import UnsupportedAdapter
from worker.engine.native.library import (
    LORA_PANEL_ROWS,
    MAX_LORA_PARTS,
    LoraFormat,
    NativeAdapter,
    NativeLora,
    NativeLoraEmbedding,
    NativeLoraPart,
)
from worker.engine.native.memory import Memory
from worker.engine.native.packed_file import PackedLayout, read_packed, write_packed

HEAD = "lm_head"  # an adapter's name for the head, even if the head's weight is the embedding's
ALIGNMENT = 64  # bytes, of each packed matrix

_Key = tuple[str, str | int]  # which part of the adapter ("a", "b" or "columns"), and of which module or matrix


@dataclass(frozen=True, slots=True)
class BaseMatrix:
    """A matrix of the base model: modules stacked by rows."""

    columns: int
    module_rows: Mapping[str, int]  # number of outputs of each module, in order


@dataclass(frozen=True, slots=True)
class BaseShapes:
    """Everything in a base model that can be adapted."""

    matrices: Sequence[BaseMatrix]  # in the order of `struct slm_adapter`
    embedding: str
    position_embedding: str | None
    hidden_size: int
    num_entries: Mapping[str, int]  # of each embedding: tokens, or positions in use


class PackedAdapter:
    """An adapter in the native layout: a `PreparedAdapter`. `pack` and `read` create it.

    Args:
        layout: its matrices in the memory.
        memory: the packed matrices, which it owns.
        base: shapes of the model that it adapts.
        lora_format: number format of the packed matrices.
    """

    def __init__(self, layout: PackedLayout, memory: Memory, base: BaseShapes, lora_format: LoraFormat) -> None:
        self._layout = layout
        self._memory = memory
        self._addresses = _addresses(layout, memory.address)
        self._native = self._describe(base, lora_format)
        self.is_closed = False

    @classmethod
    def pack(cls, weights: AdapterWeights, base: BaseShapes, lora_format: LoraFormat) -> PackedAdapter:
        """Pack an adapter's matrices, which are copied.

        Raises:
            UnsupportedAdapter: it adapts something that the native model does not have.
            OSError: there is not enough memory.
        """
        _check(weights, base)
        tensors = dict(_pack(weights, base, lora_format))
        layout = PackedLayout(
            [(*key, _aligned_size(tensor)) for key, tensor in tensors.items()],
            _shapes(weights.modules),
            _shapes(weights.embeddings),
        )
        memory = Memory(sum(size for _, _, size in layout.tensors))
        for tensor, address in zip(tensors.values(), _addresses(layout, memory.address).values(), strict=True):
            ctypes.memmove(address, tensor.data_ptr(), tensor.nbytes)
        return cls(layout, memory, base, lora_format)

    @classmethod
    def read(cls, file: Path, base: BaseShapes, lora_format: LoraFormat) -> PackedAdapter | None:
        """Read what `write` has written for the same base and format; None if there is no such file.

        Raises:
            OSError: there is not enough memory.
        """
        found = read_packed(file)
        return None if found is None else cls(*found, base, lora_format)

    def write(self, file: Path) -> None:
        """Write it to a file. Raises `OSError`."""
        write_packed(file, self._layout, self._memory)

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, in bytes."""
        return self._memory.size

    @property
    def max_ranks(self) -> int:
        """The argument for `slm_reserve_ranks`."""
        ranks: int = self._native.max_ranks
        return ranks

    @property
    def address(self) -> int:
        """The address of its `struct slm_adapter`, valid until `close`."""
        return ctypes.addressof(self._native)

    def close(self) -> None:
        """Free the memory. No step may use the adapter any more."""
        if not self.is_closed:
            self._memory.close()
        self.is_closed = True

    def _describe(self, base: BaseShapes, lora_format: LoraFormat) -> NativeAdapter:
        loras = [self._lora(index, matrix) for index, matrix in enumerate(base.matrices)]
        return NativeAdapter(
            format=lora_format,
            max_ranks=LORA_PANEL_ROWS * max(lora.num_panels for lora in loras),
            embedding=self._embedding(base.embedding),
            position_embedding=self._embedding(base.position_embedding),
            matrices=(NativeLora * len(loras))(*loras),
        )

    def _lora(self, index: int, matrix: BaseMatrix) -> NativeLora:
        parts: list[NativeLoraPart] = []
        first_row = num_ranks = 0
        for module, num_rows in matrix.module_rows.items():
            if module in self._layout.modules:
                parts.append(self._part(module, self._layout.modules[module], first_row, num_ranks))
                num_ranks += parts[-1].rank
            first_row += num_rows
        return NativeLora(
            a=self._addresses.get(("a", index)),
            num_panels=-(-num_ranks // LORA_PANEL_ROWS),
            num_parts=len(parts),
            parts=(NativeLoraPart * MAX_LORA_PARTS)(*parts),
        )

    def _embedding(self, name: str | None) -> NativeLoraEmbedding:
        if name is None or name not in self._layout.embeddings:
            return NativeLoraEmbedding()
        part = self._part(name, self._layout.embeddings[name], first_row=0, first_rank=0)
        return NativeLoraEmbedding(columns=self._addresses["columns", name], part=part)

    def _part(self, module: str, shape: tuple[int, int], first_row: int, first_rank: int) -> NativeLoraPart:
        rank, num_rows = shape
        return NativeLoraPart(
            b=self._addresses["b", module],
            first_row=first_row,
            num_rows=num_rows,
            first_rank=first_rank,
            rank=rank + rank % 2,
        )


def _addresses(layout: PackedLayout, begin: int) -> dict[_Key, int]:
    """Return the address of each packed matrix."""
    addresses: dict[_Key, int] = {}
    for part, name, size in layout.tensors:
        addresses[part, name] = begin
        begin += size
    return addresses


def _shapes(modules: Mapping[str, LoraMatrices]) -> dict[str, tuple[int, int]]:
    return {name: (matrices.rank, matrices.b.shape[0]) for name, matrices in modules.items()}


def _check(weights: AdapterWeights, base: BaseShapes) -> None:
    """Raise `UnsupportedAdapter` if the adapter does not fit the base."""
    sizes = {module: (matrix.columns, rows) for matrix in base.matrices for module, rows in matrix.module_rows.items()}
    for module, matrices in weights.modules.items():
        _check_module(module, matrices.a.shape[1], matrices.b.shape[0], sizes.get(module))
    for module, matrices in weights.embeddings.items():
        num_entries = base.num_entries.get(module)
        expected = None if num_entries is None else (num_entries, base.hidden_size)
        entries = matrices.a[:, :num_entries].shape[1]  # a model may have more positions than are used
        _check_module(module, entries, matrices.b.shape[0], expected)


def _check_module(module: str, num_in: int, num_out: int, expected: tuple[int, int] | None) -> None:
    if expected is None:
        raise UnsupportedAdapter(f"The server's own kernels cannot adapt {module}.")
    if (num_in, num_out) != expected:
        raise UnsupportedAdapter(
            f"The adapter's matrices of {module} map {num_in} to {num_out} numbers; "
            f"the model's layer maps {expected[0]} to {expected[1]}."
        )


def _pack(weights: AdapterWeights, base: BaseShapes, lora_format: LoraFormat) -> Iterator[tuple[_Key, Tensor]]:
    """Yield the packed matrices in the order in which a step reads them."""
    for name, matrices in weights.embeddings.items():
        yield ("columns", name), _even_ranks(matrices.a[:, : base.num_entries[name]]).T.contiguous()
        yield ("b", name), _panels(matrices.b, lora_format)
    for index, matrix in enumerate(base.matrices):
        adapted = {module: weights.modules[module] for module in matrix.module_rows if module in weights.modules}
        if adapted:
            a = torch.cat([_even_ranks(matrices.a) for matrices in adapted.values()])
            yield ("a", index), _panels(a, lora_format)
        for module, matrices in adapted.items():
            yield ("b", module), _panels(matrices.b, lora_format)


def _even_ranks(a: Tensor) -> Tensor:
    """Add a row of zeros if there is an odd number of rows."""
    return pad(a, (0, 0, 0, a.shape[0] % 2))


def _panels(matrix: Tensor, lora_format: LoraFormat) -> Tensor:
    """Return the panels of a matrix in the layout of `enum slm_lora_format`."""
    padded = pad(matrix, (0, matrix.shape[1] % 2, 0, -matrix.shape[0] % LORA_PANEL_ROWS))
    if lora_format == LoraFormat.INT8:
        return _int8_panels(padded)
    pairs = padded.view(-1, LORA_PANEL_ROWS, padded.shape[1] // 2, 2)
    if lora_format == LoraFormat.BF16:
        return pairs.bfloat16().permute(0, 2, 1, 3).contiguous()
    return pairs.permute(0, 2, 3, 1).contiguous()


def _int8_panels(matrix: Tensor) -> Tensor:
    """Round each row to multiples of its own scale, which the panel begins with."""
    num_panels, columns = len(matrix) // LORA_PANEL_ROWS, matrix.shape[1]
    scales = matrix.abs().amax(1, keepdim=True) / 127
    values = (matrix / scales.clamp(min=torch.finfo(torch.float32).tiny)).round().to(torch.int8)
    by_column = values.view(num_panels, LORA_PANEL_ROWS, columns).permute(0, 2, 1)
    heads = scales.view(num_panels, LORA_PANEL_ROWS).view(torch.int8)
    return torch.cat([heads, by_column.reshape(num_panels, -1)], dim=1)


def _aligned_size(tensor: Tensor) -> int:
    return -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
