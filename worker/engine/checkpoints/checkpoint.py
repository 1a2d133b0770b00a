"""Reads a checkpoint's tensors by the names in an `Architecture`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from worker.engine.checkpoints.architecture import Architecture, Linear
from worker.engine.model_runner import UnsupportedModelError


class Checkpoint:
    """A checkpoint's tensors, in one number format on one device.

    Args:
        architecture: architecture of the model.
        tensors: by their names in transformers; a model's `state_dict()`, or a mapping that loads on
            access. No tensor is kept.
        dtype: target number format.
        device: target device. Tensors that already have this device and format are not copied.
    """

    def __init__(
        self, architecture: Architecture, tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._architecture = architecture
        self._tensors = tensors
        self._dtype = dtype
        self.device = device

    def read(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """Read one tensor.

        Raises:
            UnsupportedModelError: the tensor is missing or has another shape.
        """
        if not self._has(name):
            raise UnsupportedModelError(f"The checkpoint has no tensor {name}.")
        stored = self._tensors[self._stored_name(name)]
        if shape is not None and stored.shape != shape:
            raise UnsupportedModelError(f"{name} has the shape {tuple(stored.shape)}, not {shape}.")
        return self.convert(stored.detach()).contiguous()

    def embedding(self) -> Tensor:
        """Read the token embeddings, [vocab_size, hidden_size]. Raises as `read`."""
        parts = self._architecture
        return self.read(f"{parts.embedding}.weight", (parts.vocab_size, parts.hidden_size))

    def positions(self, context_length: int) -> Tensor | None:
        """Read the learned embeddings of the first positions, [context_length, hidden_size]; None if they are rotary.

        Raises:
            UnsupportedModelError: the model has fewer positions.
        """
        name = self._architecture.position_embedding
        if name is None:
            return None
        table = self.read(f"{name}.weight")
        if table.shape[0] < context_length:
            raise UnsupportedModelError(f"The model has {table.shape[0]} positions, not {context_length}.")
        return table[:context_length]

    def bias(self, linear: Linear, sizes: list[int]) -> Tensor | None:
        """Read the biases of a matrix's modules, [rows]; None if no module has a bias.

        Args:
            linear: the matrix.
            sizes: number of rows of each module.
        """
        names = [f"{module}.bias" for module in linear.modules]
        if not any(self._has(name) for name in names):
            return None
        parts = [
            self.read(name, (size,)) if self._has(name) else self.zeros(size)
            for name, size in zip(names, sizes, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def convert(self, tensor: Tensor) -> Tensor:
        """Convert a tensor to this number format and device."""
        return tensor.to(self.device, self._dtype)

    def zeros(self, *shape: int) -> Tensor:
        """Return zeros in this number format on this device."""
        return torch.zeros(shape, dtype=self._dtype, device=self.device)

    def _has(self, name: str) -> bool:
        return self._stored_name(name) in self._tensors

    def _stored_name(self, name: str) -> str:
        """Return the tensor's name in this checkpoint: checkpoints of the bare model omit the base's prefix."""
        return name if name in self._tensors else name.removeprefix(self._architecture.base)
