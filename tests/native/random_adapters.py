"""Random adapters of the tiny models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from worker.engine.lora import AdapterWeights, LoraMatrices

EFFECT = 0.3  # about the size of what an adapter adds, relative to a result of the base


def linear_modules(model: Any) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a model's linear layers by name, the head's too."""
    sizes: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            sizes[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            sizes[name] = tuple(module.weight.shape)
    return sizes


def embedding_modules(model: Any) -> dict[str, tuple[int, int]]:
    """Entries and widths of a model's embeddings by name."""
    return {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
    }


def random_adapter(model: Any, rank: int = 4, seed: int = 0, *, only: Iterable[str] | None = None) -> AdapterWeights:
    """An adapter of all linear layers and embeddings, or of the linear layers whose names end in one of `only`."""
    generator = torch.Generator().manual_seed(seed)

    def matrices(num_in: int, num_out: int) -> LoraMatrices:
        a = torch.randn(rank, num_in, generator=generator)
        b = torch.randn(num_out, rank, generator=generator) * (EFFECT / (rank * num_in) ** 0.5)
        return LoraMatrices(a, b)

    wanted = ("",) if only is None else tuple(only)
    modules = {name: matrices(*size) for name, size in linear_modules(model).items() if name.endswith(wanted)}
    of_embeddings = embedding_modules(model) if only is None else {}
    return AdapterWeights(modules, {name: matrices(*size) for name, size in of_embeddings.items()})


def adapted_logits(model: Any, weights: AdapterWeights, token_ids: tuple[int, ...]) -> Tensor:
    """Logits of all positions [tokens, vocab_size]; hooks add the adapter's products to transformers' modules."""
    handles = [
        model.get_submodule(name).register_forward_hook(_adding(matrices, is_embedding=name in weights.embeddings))
        for name, matrices in (*weights.modules.items(), *weights.embeddings.items())
    ]
    try:
        logits: Tensor = model(torch.tensor([token_ids])).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits


def _adding(matrices: LoraMatrices, *, is_embedding: bool) -> Any:
    def add(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        shrunk = matrices.a.T[inputs[0]] if is_embedding else inputs[0] @ matrices.a.T
        return output + shrunk @ matrices.b.T

    return add
