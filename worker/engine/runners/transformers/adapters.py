"""Adds adapters to single rows of a transformers model's forward."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from models.adapter.config import MERGE_ADVICE
from worker.engine.lora import AdapterWeights, LoraMatrices
from worker.engine.model_runner import PreparedAdapter, UnsupportedAdapter
from worker.engine.sequence import BASE_ADAPTER

PROBE_ROWS, PROBE_TOKENS = 2, 3  # of the forward that finds out how the modules are called


@dataclass(frozen=True, slots=True)
class _Product:
    """What an adapter adds to a module's output."""

    down: Tensor  # [rank, in]; of an embedding [tokens, rank]
    up: Tensor  # [out, rank]
    is_embedding: bool

    def of(self, x: Tensor) -> Tensor:
        """Return what is added for inputs [..., in] or tokens [...]: [..., out]."""
        inner = functional.embedding(x, self.down) if self.is_embedding else functional.linear(x, self.down)
        return functional.linear(inner, self.up)


class TransformersAdapter:
    """An adapter on the model's device, in its number format."""

    def __init__(self, products: dict[nn.Module, _Product], *, keeps_rows_apart: bool) -> None:
        self.products = products
        self.keeps_rows_apart = keeps_rows_apart  # whether all its modules see the rows of a forward as such

    @property
    def num_bytes(self) -> int:
        """As `PreparedAdapter.num_bytes`."""
        return sum(product.down.nbytes + product.up.nbytes for product in self.products.values())

    def close(self) -> None:
        """As `PreparedAdapter.close`."""
        self.products.clear()


class _Part(NamedTuple):
    product: _Product
    rows: Tensor | None  # int64; None: all rows


class _Called(NamedTuple):
    """A module that a forward calls."""

    module: nn.Module
    keeps_rows_apart: bool  # whether the first dimension of its input is the rows


class RowAdapters:
    """The adapters of a model. Its weights stay as they are; what rows with an adapter add is computed in hooks.

    The hooks exist only during a forward with adapters, so others cost nothing.

    Args:
        model: a `PreTrainedModel` in evaluation mode on its device.
    """

    def __init__(self, model: Any) -> None:
        self._device, self._dtype = model.device, model.dtype
        self._called = _called_modules(model)
        self._added: dict[str, TransformersAdapter] = {}

    @property
    def ids(self) -> Collection[str]:
        """The ids that rows may carry."""
        return {BASE_ADAPTER, *self._added}

    def prepare(self, weights: AdapterWeights) -> TransformersAdapter:
        """Copy an adapter to the device. Raises `UnsupportedAdapter`."""
        products = {}
        names = [*weights.modules, *weights.embeddings]
        for name, matrices in weights.modules.items():
            module = self._module(name, (nn.Linear, Conv1D))
            _check_shapes(name, module, matrices)
            products[module] = _Product(self._copied(matrices.a), self._copied(matrices.b), is_embedding=False)
        for name, matrices in weights.embeddings.items():
            module = self._module(name, (nn.Embedding,))
            down, up = matrices.a.T.contiguous(), matrices.b * _embedding_scale(name, module)
            products[module] = _Product(self._copied(down), self._copied(up), is_embedding=True)
        return TransformersAdapter(
            products, keeps_rows_apart=all(self._called[name].keeps_rows_apart for name in names)
        )

    def add(self, adapter_id: str, prepared: PreparedAdapter) -> None:
        """As `ModelRunner.add_adapter`."""
        if adapter_id in self.ids:
            raise ValueError(f"There is an adapter {adapter_id!r} already.")
        if not isinstance(prepared, TransformersAdapter):
            raise TypeError("The adapter was prepared by another runner.")
        self._added[adapter_id] = prepared

    def remove(self, adapter_id: str) -> None:
        """As `ModelRunner.remove_adapter`."""
        if adapter_id not in self._added:
            raise ValueError(f"There is no adapter {adapter_id!r}.")
        del self._added[adapter_id]

    def keeps_rows_apart(self, adapter_id: str) -> bool:
        """Return whether rows with this adapter can be in a forward with rows of others."""
        return adapter_id == BASE_ADAPTER or self._added[adapter_id].keeps_rows_apart

    @contextmanager
    def applied(self, adapter_ids: list[str]) -> Iterator[None]:
        """Add the adapters to the rows of the forwards in this context.

        Args:
            adapter_ids: the adapter of each row.
        """
        with ExitStack() as hooks:
            for module, parts in self._parts(adapter_ids).items():
                hooks.callback(module.register_forward_hook(_adding(parts)).remove)
            yield

    def _parts(self, adapter_ids: list[str]) -> dict[nn.Module, list[_Part]]:
        """Return by module which products are added to which rows."""
        parts: dict[nn.Module, list[_Part]] = {}
        for adapter_id in dict.fromkeys(adapter_ids):
            if adapter_id == BASE_ADAPTER:
                continue
            rows = self._rows(adapter_id, adapter_ids)
            for module, product in self._added[adapter_id].products.items():
                parts.setdefault(module, []).append(_Part(product, rows))
        return parts

    def _rows(self, adapter_id: str, adapter_ids: list[str]) -> Tensor | None:
        rows = [row for row, other in enumerate(adapter_ids) if other == adapter_id]
        return None if len(rows) == len(adapter_ids) else torch.tensor(rows, device=self._device)

    def _module(self, name: str, kinds: tuple[type[nn.Module], ...]) -> nn.Module:
        called = self._called.get(name)
        if called is None or not isinstance(called.module, kinds):
            raise UnsupportedAdapter(
                f"The adapter changes {name}, which this model does not compute as a "
                f"{' or '.join(kind.__name__ for kind in kinds)} layer. {MERGE_ADVICE}"
            )
        return called.module

    def _copied(self, values: Tensor) -> Tensor:
        return values.to(self._device, self._dtype)


def _adding(parts: list[_Part]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Return a hook that adds products to a module's output, in place."""

    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for product, rows in parts:
            if rows is None:
                output += product.of(inputs[0])
            else:
                output.index_add_(0, rows, product.of(inputs[0][rows]))

    return add


def _called_modules(model: Any) -> Mapping[str, _Called]:
    """Return the modules that a forward calls with a tensor, by name."""
    called: dict[str, _Called] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                num_dims = 2 if isinstance(module, nn.Embedding) else 3
                is_apart = inputs[0].dim() == num_dims and len(inputs[0]) == PROBE_ROWS
                called[name] = _Called(module, is_apart)

        return hook

    with ExitStack() as hooks, torch.inference_mode():
        for name, module in model.named_modules():
            if isinstance(module, (nn.Linear, Conv1D, nn.Embedding)):
                hooks.callback(module.register_forward_pre_hook(note(name)).remove)
        token_ids = torch.zeros(PROBE_ROWS, PROBE_TOKENS, dtype=torch.int64, device=model.device)
        positions = torch.arange(PROBE_TOKENS, device=model.device).expand(PROBE_ROWS, -1)
        model(input_ids=token_ids, position_ids=positions, use_cache=False)
    return called


def _check_shapes(name: str, module: Any, matrices: LoraMatrices) -> None:
    """Raise `UnsupportedAdapter` if the matrices do not fit: the adapter's check cannot see how a weight is stored."""
    shape = tuple(module.weight.shape)
    num_out, num_in = shape[::-1] if isinstance(module, Conv1D) else shape
    if (matrices.a.shape[1], matrices.b.shape[0]) != (num_in, num_out):
        raise UnsupportedAdapter(
            f"The adapter's matrices of {name} map {matrices.a.shape[1]} to {matrices.b.shape[0]} numbers; "
            f"the model's layer maps {num_in} to {num_out}."
        )


def _embedding_scale(name: str, module: Any) -> float:
    """Return the factor by which the embedding multiplies what it looks up. Raises `UnsupportedAdapter`."""
    if type(module).forward is nn.Embedding.forward:
        return 1.0
    if hasattr(module, "embed_scale"):  # as peft
        return float(module.embed_scale)
    raise UnsupportedAdapter(f"The adapter changes {name}, a {type(module).__name__}. {MERGE_ADVICE}")
