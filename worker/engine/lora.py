"""Reads the matrices of a LoRA adapter (Hu et al. 2021) that a runner adds to the base model, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import Tensor

from models.adapter.check import BASE_LAYER, EMBEDDING, LINEAR, WEIGHTS_FILE, AdapterError, AdapterInfo
from models.adapter.config import MERGE_ADVICE

MAX_ROUNDING = 0.01  # relative to the weight; bfloat16 rounds by up to 0.004

BaseWeight = Callable[[str], "Tensor | None"]


def _unknown(_module: str) -> Tensor | None:
    return None


@dataclass(frozen=True, slots=True, eq=False)
class LoraMatrices:
    """What an adapter adds to one module of the base model: y += b @ (a @ x), for an embedding y += b @ a[:, token].

    `b` includes the adapter's scaling, so runners have nothing to multiply.
    """

    a: Tensor  # float32 [rank, in]; of an embedding: [rank, tokens]
    b: Tensor  # float32 [out, rank]

    @property
    def rank(self) -> int:
        """The rank of the product."""
        return self.a.shape[0]

    @property
    def num_bytes(self) -> int:
        """Size of both matrices in bytes."""
        return self.a.nbytes + self.b.nbytes


class AdapterWeights(NamedTuple):
    """The matrices of an adapter by the base model's module names, e.g. `model.layers.0.self_attn.q_proj`.

    An output layer and an embedding that share their weight are two modules: each has its own matrices or none.
    """

    modules: Mapping[str, LoraMatrices]  # of linear layers; GPT-2's Conv1D has the same shapes
    embeddings: Mapping[str, LoraMatrices]

    @property
    def num_bytes(self) -> int:
        """Size of all matrices in bytes."""
        return sum(matrices.num_bytes for matrices in (*self.modules.values(), *self.embeddings.values()))


def read_adapter(info: AdapterInfo, base_weight: BaseWeight = _unknown) -> AdapterWeights:
    """Read a checked adapter's matrices into memory.

    Args:
        info: the adapter.
        base_weight: returns a module's weight in the base model; None if it is unknown. Copies of the base's own
            weights, which peft saves with adapters of embeddings and output layers, are ignored.

    Raises:
        AdapterError: it replaces weights of the base, which would concern all rows, or it has values that are not
            finite.
    """
    modules: dict[str, LoraMatrices] = {}
    embeddings: dict[str, LoraMatrices] = {}
    with safe_open(info.path / WEIGHTS_FILE, framework="pt") as tensors:
        _check_base_layers(tensors, info, base_weight)
        for name in sorted(info.scalings):
            is_embedding = name in info.embeddings
            (embeddings if is_embedding else modules)[name] = _read(tensors, info, name, is_embedding=is_embedding)
    return AdapterWeights(modules, embeddings)


def _check_base_layers(tensors: Any, info: AdapterInfo, base_weight: BaseWeight) -> None:
    replaced = [
        name
        for name in sorted(info.base_layers)
        if not _is_copy(tensors.get_tensor(f"base_model.model.{name}.{BASE_LAYER}"), base_weight(name))
    ]
    if replaced:
        raise AdapterError(
            f"Adapter {str(info.path)!r} replaces weights of the base model ({', '.join(replaced)}), so it cannot be "
            f"served beside others on the same base. {MERGE_ADVICE}"
        )


def _is_copy(saved: Tensor, weight: Tensor | None) -> bool:
    """Return whether two weights differ by no more than the rounding of their number formats."""
    if weight is None:
        return False
    saved = saved.float()
    return bool((saved - weight.float()).norm() <= MAX_ROUNDING * saved.norm())


def _read(tensors: Any, info: AdapterInfo, name: str, *, is_embedding: bool) -> LoraMatrices:
    keys = EMBEDDING if is_embedding else LINEAR
    a, b = (tensors.get_tensor(f"base_model.model.{name}.{key}").float().contiguous() for key in keys)
    scaled = b * info.scalings[name]
    if not (a.isfinite().all() and scaled.isfinite().all()):
        raise AdapterError(
            f"Adapter {str(info.path)!r}: its weights of {name} are not finite numbers. Its training went wrong; "
            "train it again, with a lower learning rate."
        )
    return LoraMatrices(a, scaled)
