"""Adapters for the fused kernels, in a table on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from worker.engine.checkpoints.architecture import Architecture
from worker.engine.device.adapters import (
    EmbeddingProducts,
    Place,
    Site,
    by_site,
    embedding_products,
    head_site,
    linears_of,
    rows_of_parts,
)
from worker.engine.device.fused.kernels import adapters as kernels
from worker.engine.device.fused.kernels import linear
from worker.engine.device.transfers import to_device
from worker.engine.device.weights import DecoderWeights, NormWeights
from worker.engine.lora import AdapterWeights, LoraMatrices
from worker.engine.model_runner import PreparedAdapter, UnsupportedAdapter

MAX_ADAPTERS = 255
MAX_RANK = 512
RANK_PROGRAMS = 2  # programs that share the ranks of a token
MAX_COLUMNS = 1024  # that a program computes at once

Order = Callable[[Tensor], Tensor]  # from the order of the modules' rows to that of the packed matrix


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix with modules in its parts; the same kind of matrix of all layers has one description."""

    num_parts: int
    num_columns: int
    order: Order
    row_parts: Tensor  # int32 [rows], the part of each row in the packed order

    @property
    def num_rows(self) -> int:
        """Its rows, of all parts."""
        return len(self.row_parts)


class Down(NamedTuple):
    """The products of tokens with the matrices A of their adapters, for the kernel that adds those with B."""

    tensors: tuple[Tensor, ...]  # `down`, `row_parts`, `slots`, `table` and `anchor` of the kernels
    site: int
    options: Mapping[str, int]


class FusedAdapter:
    """An adapter in one piece of memory on the device."""

    def __init__(self, memory: Tensor, entries: Tensor, embeddings: EmbeddingProducts) -> None:
        self.memory = memory
        self.entries = entries  # int64 [sites, ENTRY] on the host, relative to the memory
        self.embeddings = embeddings
        self.num_bytes = memory.nbytes + embeddings.num_bytes

    def close(self) -> None:
        """As `PreparedAdapter.close`."""
        self.memory = self.memory.new_empty(0)
        self.embeddings = EmbeddingProducts(None, None)


class FusedAdapters:
    """The adapters of a fused decoder.

    Kernels find an adapter's matrices through a table at a fixed address, so a captured step serves all adapters and is
    never captured again. Adapters of any rank take only the memory of their own matrices.

    Args:
        architecture: sizes and kinds.
        weights: on the device.
        orders: of the rows of packed matrices; default: that of the modules.
        max_tokens: maximum tokens of a step.
        context_length: maximum tokens of a sequence.
        options: of the kernel launches.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: DecoderWeights,
        orders: Mapping[Site, Order],
        *,
        max_tokens: int,
        context_length: int,
        options: Mapping[str, Any],
    ) -> None:
        self._architecture = architecture
        self._like = weights.embedding
        self._context_length = context_length
        self._options = options
        self._matrices = _matrices(architecture, orders, weights.embedding.device)
        self._num_sites = head_site(architecture) + 1
        self._anchor = self._like.new_zeros(kernels.UNIT.value)
        self._added: dict[int, FusedAdapter] = {}  # by slot
        device = self._like.device
        num_parts = max(matrix.num_parts for matrix in self._matrices)
        self._down = torch.zeros(num_parts, MAX_RANK, max_tokens, dtype=torch.float32, device=device)
        self._table = torch.zeros(
            MAX_ADAPTERS + 1, self._num_sites, kernels.ENTRY.value, dtype=torch.int64, device=device
        )

    def embeddings(self, slot: int) -> EmbeddingProducts:
        """Return what the adapter in the slot adds to embeddings."""
        return self._added[slot].embeddings

    def prepare(self, weights: AdapterWeights) -> FusedAdapter:
        """Copy an adapter to the device. Raises `UnsupportedAdapter`."""
        memory = [torch.empty(0)]
        entries = torch.zeros(self._num_sites, kernels.ENTRY.value, dtype=torch.int64)
        end = 0
        for site, modules in by_site(weights, self._architecture).items():
            down, up, rank = _joined(self._matrix(site), modules)
            entries[site] = torch.tensor([end, end + down.numel(), rank])
            memory += [down.flatten(), up.flatten()]
            end += down.numel() + up.numel()
        embeddings = embedding_products(
            weights, self._architecture, context_length=self._context_length, like=self._like
        )
        return FusedAdapter(torch.cat(memory).to(self._like), entries, embeddings)

    def add(self, slot: int, prepared: PreparedAdapter) -> None:
        """Put an adapter into a free slot."""
        if not isinstance(prepared, FusedAdapter):
            raise TypeError("The adapter was prepared by another runner.")
        begin = (prepared.memory.data_ptr() - self._anchor.data_ptr()) // self._anchor.itemsize
        entries = prepared.entries.clone()
        entries[:, :2] = (entries[:, :2] + begin) // kernels.UNIT.value
        self._table[slot].copy_(to_device(entries, self._table.device))
        self._added[slot] = prepared

    def remove(self, slot: int) -> None:
        """Free a slot and the adapter's memory."""
        del self._added[slot]

    def multiply_down(self, site: int, x: Tensor, norm: NormWeights | None, slots: Tensor, num_tokens: int) -> Down:
        """Multiply tokens by the matrices A of their adapters; the next call overwrites the result.

        Args:
            site: index of the matrix.
            x: [tokens, columns], before the norm.
            norm: the norm before the matrix.
            slots: int32 [tokens].
            num_tokens: how many tokens to compute.
        """
        matrix = self._matrix(site)
        kernels.multiply_down[(num_tokens, matrix.num_parts, RANK_PROGRAMS)](
            x,
            x if norm is None else norm.weight,
            x if norm is None or norm.bias is None else norm.bias,
            *(slots, self._table, self._anchor, self._down, site, 0.0 if norm is None else norm.epsilon),
            NUM_SITES=self._num_sites,
            NUM_COLUMNS=matrix.num_columns,
            COLUMNS=min(MAX_COLUMNS, triton.next_power_of_2(matrix.num_columns)),
            MAX_RANK=MAX_RANK,
            MAX_TOKENS=self._down.shape[2],
            NORM=_norm_kind(norm),
            num_warps=4 if matrix.num_columns <= MAX_COLUMNS else 8,
            **self._options,
        )
        return Down(
            (self._down, matrix.row_parts, slots, self._table, self._anchor),
            site,
            {"NUM_SITES": self._num_sites, "MAX_RANK": MAX_RANK, "MAX_TOKENS": self._down.shape[2]},
        )

    def _matrix(self, site: int) -> Matrix:
        is_head = site == self._num_sites - 1
        return self._matrices[-1 if is_head else site % len(Site)]


def _joined(matrix: Matrix, modules: list[tuple[Place, LoraMatrices]]) -> tuple[Tensor, Tensor, int]:
    """Return A [parts, rank, columns] and B [rows in the packed order, rank] of all modules, and their rank."""
    unit = kernels.RANKS.value
    rank = -(-max(one.rank for _, one in modules) // unit) * unit
    if rank > MAX_RANK:
        raise UnsupportedAdapter(f"The adapter has rank {rank}; the GPU kernels compute at most {MAX_RANK}.")
    down = torch.zeros(matrix.num_parts, rank, matrix.num_columns)
    up = torch.zeros(matrix.num_rows, rank)
    for place, one in modules:
        down[place.part, : one.rank] = one.a
        up[place.begin : place.end, : one.rank] = one.b
    return down, matrix.order(up), rank


def _matrices(parts: Architecture, orders: Mapping[Site, Order], device: torch.device) -> list[Matrix]:
    """Describe the matrices of any layer, and the head."""
    matrices = []
    for site, one in linears_of(parts.layers[0]).items():
        order = orders.get(site, _unchanged)
        sizes = rows_of_parts(one, site, parts)
        row_parts = torch.repeat_interleave(torch.arange(len(sizes), dtype=torch.int32), torch.tensor(sizes))
        matrices.append(Matrix(len(sizes), one.columns, order, order(row_parts).contiguous().to(device)))
    of_head = torch.zeros(parts.vocab_size, dtype=torch.int32, device=device)
    return [*matrices, Matrix(1, parts.hidden_size, _unchanged, of_head)]


def _unchanged(rows: Tensor) -> Tensor:
    return rows


def _norm_kind(norm: NormWeights | None) -> Any:
    if norm is None:
        return linear.NO_NORM
    return linear.RMS_NORM if norm.bias is None else linear.LAYER_NORM
