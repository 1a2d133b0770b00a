"""Packs a LoRA adapter's matrices into the layout of the native code."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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
from worker.engine.native.packed_model import BaseMatrix, BaseShapes

if TYPE_CHECKING:
    from torch import Tensor

    from worker.engine.lora import AdapterWeights, LoraMatrices

ALIGNMENT = 64  # bytes, of each packed matrix

MatrixKey = tuple[str, str | int]  # which part of the adapter ("a", "b" or "columns"), and of which module or matrix


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
        from worker.engine.native.adapter_panels import packed_matrices

        _check(weights, base)
        tensors = dict(packed_matrices(weights, base, lora_format))
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
            **self._next(index, matrix),
        )

    def _next(self, index: int, matrix: BaseMatrix) -> dict[str, int]:
        """Return the memory that a step reads after a matrix: its b, and the a of the next matrix, which follows."""
        wanted = {*(("b", module) for module in matrix.module_rows), ("a", index + 1)}
        sizes = {(part, name): size for part, name, size in self._layout.tensors if (part, name) in wanted}
        return {"next": self._addresses[next(iter(sizes))], "next_size": sum(sizes.values())} if sizes else {}

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


def _addresses(layout: PackedLayout, begin: int) -> dict[MatrixKey, int]:
    """Return the address of each packed matrix."""
    addresses: dict[MatrixKey, int] = {}
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


def _aligned_size(tensor: Tensor) -> int:
    return -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
