"""Packs the matrices of an adapter into panels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from worker.engine.lora import AdapterWeights
from worker.engine.native.adapter import MatrixKey
from worker.engine.native.library import LORA_PANEL_ROWS, LoraFormat
from worker.engine.native.packed_model import BaseShapes


def packed_matrices(
    weights: AdapterWeights, base: BaseShapes, lora_format: LoraFormat
) -> Iterator[tuple[MatrixKey, Tensor]]:
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
        return _with_scales(*_rounded(padded))
    if lora_format == LoraFormat.DOT:
        scales, values = _rounded(pad(padded, (0, padded.shape[1] % 4)))
        flipped = values.view(torch.uint8) ^ 0x80  # value + 128
        return _with_scales(scales, flipped.view(torch.int8).view(len(padded), -1, 4))
    pairs = padded.view(-1, LORA_PANEL_ROWS, padded.shape[1] // 2, 2)
    if lora_format == LoraFormat.BF16:
        return pairs.bfloat16().permute(0, 2, 1, 3).contiguous()
    return pairs.permute(0, 2, 3, 1).contiguous()


def _rounded(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to multiples of its own scale: return the scales, and int8 values."""
    scales = matrix.abs().amax(1, keepdim=True) / 127
    return scales, (matrix / scales.clamp(min=torch.finfo(torch.float32).tiny)).round().to(torch.int8)


def _with_scales(scales: Tensor, values: Tensor) -> Tensor:
    """Return panels that begin with their rows' scales. `values`: int8 [rows, columns], or [rows, columns / 4, 4]."""
    by_column = values.view(-1, LORA_PANEL_ROWS, *values.shape[1:]).transpose(1, 2)
    heads = scales.view(-1, LORA_PANEL_ROWS).view(torch.int8)
    return torch.cat([heads, by_column.flatten(1)], dim=1)
