"""Merges a LoRA adapter into a model's weights."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from models.adapter.check import BASE_LAYER, EMBEDDING, LINEAR, WEIGHTS_FILE, AdapterError, AdapterInfo


def merge_lora(model: Any, adapter: AdapterInfo) -> None:
    """Add scaling * B @ A to the weights of the adapted modules (Hu et al. 2021), so that it costs nothing at run time.

    peft does the same, but its import adds two seconds to every start. The adapter check accepts only adapters that
    consist of this product alone.

    Args:
        model: a `PreTrainedModel`.
        adapter: checked against that model.

    Raises:
        AdapterError: the adapter has values that are not finite, or does not fit after all.
    """
    with safe_open(adapter.path / WEIGHTS_FILE, framework="pt") as tensors, torch.no_grad():
        for name in adapter.base_layers:
            weight = model.get_submodule(name).weight
            weight.copy_(tensors.get_tensor(f"base_model.model.{name}.{BASE_LAYER}"))
        for name in adapter.scalings:
            module = model.get_submodule(name)
            delta = _delta(tensors, adapter, name)
            delta = delta.T if isinstance(module, Conv1D) or name in adapter.embeddings else delta
            if delta.shape != module.weight.shape:
                raise AdapterError(f"Adapter {str(adapter.path)!r}: its matrices of {name} do not fit its weight.")
            _unshare_weight(model, module)
            module.weight += delta.to(module.weight)


def _delta(tensors: Any, adapter: AdapterInfo, name: str) -> Tensor:
    """Return the matrix to add to the module, [out, in]."""
    keys = EMBEDDING if name in adapter.embeddings else LINEAR
    down, up = (tensors.get_tensor(f"base_model.model.{name}.{key}").float() for key in keys)
    delta: Tensor = (up @ down) * adapter.scalings[name]
    if not delta.isfinite().all():
        raise AdapterError(
            f"Adapter {str(adapter.path)!r}: its weights of {name} are not finite numbers. Its training went wrong; "
            "train it again, with a lower learning rate."
        )
    return delta


def _unshare_weight(model: Any, module: Any) -> None:
    """Copy the module's weight if another module shares it, for example an output layer tied to the embedding.

    An adapter of one module must not change the other.
    """
    others = (other for other in model.modules() if other is not module)
    if any(getattr(other, "weight", None) is module.weight for other in others):
        module.weight = torch.nn.Parameter(module.weight.clone(), requires_grad=False)
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False
