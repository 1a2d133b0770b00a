"""Reads a checkpoint's tensors to the device and joins matrices that have the same input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.checkpoints.architecture import Architecture, Layer, Linear, NormKind
from worker.engine.checkpoints.checkpoint import Checkpoint
from worker.engine.checkpoints.rotary import rotary_tables
from worker.engine.model_runner import UnsupportedModelError


@dataclass(frozen=True, slots=True)
class LinearWeights:
    """A matrix and its bias."""

    weight: Tensor  # [rows, columns]
    bias: Tensor | None  # [rows]

    def of(self, x: Tensor) -> Tensor:
        """Apply the layer: [..., columns] -> [..., rows]."""
        return functional.linear(x, self.weight, self.bias)

    def add_to(self, y: Tensor, x: Tensor) -> None:
        """Add `of(x)`, for x [n, columns], to y [n, rows], so that a residual needs no separate kernel."""
        y.addmm_(x, self.weight.t())
        if self.bias is not None:
            y += self.bias


@dataclass(frozen=True, slots=True)
class NormWeights:
    """A normalisation over the last dimension."""

    weight: Tensor  # [size]
    bias: Tensor | None  # [size]; None: RMS norm
    epsilon: float

    def of(self, x: Tensor) -> Tensor:
        """Normalise: [..., size] -> the same shape."""
        if self.bias is None:
            return functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer."""

    attention_norm: NormWeights
    mlp_norm: NormWeights
    head_norms: Tensor | None  # [num_heads + num_kv_heads, head_size], of queries and keys
    query_key_value: LinearWeights
    attention_output: LinearWeights
    mlp_input: LinearWeights
    mlp_output: LinearWeights


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """A whole model."""

    embedding: Tensor  # [vocab_size, hidden_size]
    positions: Tensor | None  # [context_length, hidden_size]
    cosines: Tensor | None  # float32 [context_length, head_size / 2]
    sines: Tensor | None  # the same
    layers: tuple[LayerWeights, ...]
    final_norm: NormWeights
    head: Tensor  # [vocab_size, hidden_size]

    @property
    def num_bytes(self) -> int:
        """Minimum bytes that a step with logits reads: all weights except the tables, of which it reads single rows."""
        linears = [
            linear.weight
            for layer in self.layers
            for linear in (layer.query_key_value, layer.attention_output, layer.mlp_input, layer.mlp_output)
        ]
        return sum(weight.nbytes for weight in [*linears, self.head])


class WeightsReader:
    """Reads `DecoderWeights`.

    Args:
        architecture: names the tensors and gives their sizes.
        checkpoint: has the number format and the device of the weights. Tensors that are not joined are not copied.
    """

    def __init__(self, architecture: Architecture, checkpoint: Checkpoint) -> None:
        self._architecture = architecture
        self._checkpoint = checkpoint

    def read(self, config: Any, context_length: int) -> DecoderWeights:
        """Return all weights, with tables for `context_length` positions.

        Args:
            config: the model's `PreTrainedConfig`.
            context_length: maximum tokens of a sequence.

        Raises:
            UnsupportedModelError: a tensor is missing or has a wrong shape, or the positions are not supported.
        """
        parts = self._architecture
        embedding = self._checkpoint.embedding()
        cosines, sines = self._rotary(config, context_length)
        return DecoderWeights(
            embedding=embedding,
            positions=self._checkpoint.positions(context_length),
            cosines=cosines,
            sines=sines,
            layers=tuple(self._layer(layer) for layer in parts.layers),
            final_norm=self._norm(parts.final_norm),
            head=embedding if parts.is_tied else self._linear(parts.head).weight,
        )

    def _layer(self, layer: Layer) -> LayerWeights:
        return LayerWeights(
            attention_norm=self._norm(layer.attention_norm),
            mlp_norm=self._norm(layer.mlp_norm),
            head_norms=self._head_norms(layer),
            query_key_value=self._linear(layer.query_key_value),
            attention_output=self._linear(layer.attention_output),
            mlp_input=self._linear(layer.mlp_input),
            mlp_output=self._linear(layer.mlp_output),
        )

    def _norm(self, module: str) -> NormWeights:
        parts = self._architecture
        shape = (parts.hidden_size,)
        bias = self._checkpoint.read(f"{module}.bias", shape) if parts.norm_kind is NormKind.LAYER_NORM else None
        return NormWeights(self._checkpoint.read(f"{module}.weight", shape), bias, parts.norm_epsilon)

    def _head_norms(self, layer: Layer) -> Tensor | None:
        if layer.query_norm is None or layer.key_norm is None:
            return None
        parts = self._architecture
        query, key = (
            self._checkpoint.read(f"{name}.weight", (parts.head_size,)) for name in (layer.query_norm, layer.key_norm)
        )
        return torch.cat([query.expand(parts.num_heads, -1), key.expand(parts.num_kv_heads, -1)])

    def _linear(self, linear: Linear) -> LinearWeights:
        parts = [self._checkpoint.read(f"{module}.weight") for module in linear.modules]
        parts = [part.t() for part in parts] if linear.is_transposed else parts
        weight = parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)
        if weight.shape != (linear.rows, linear.columns):
            raise UnsupportedModelError(f"{linear.modules[0]} has the shape {tuple(weight.shape)}, not {linear}.")
        return LinearWeights(weight, self._checkpoint.bias(linear, [part.shape[0] for part in parts]))

    def _rotary(self, config: Any, context_length: int) -> tuple[Tensor | None, Tensor | None]:
        if self._architecture.position_embedding is not None:
            return None, None
        cosines, sines = rotary_tables(config, self._architecture.head_size, context_length)
        return cosines.to(self._checkpoint.device), sines.to(self._checkpoint.device)
