"""Merges a LoRA adapter into a model's weights."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import safe_open
from transformers.pytorch_utils import Conv1D

from SLMInit.adapter_check import WEIGHTS_FILE, AdapterInfo


def merge_lora(model: Any, adapter: AdapterInfo) -> None:
    """Add scaling * B @ A to the weights of the adapted modules (Hu et al. 2021), so that it costs nothing at run time.

    peft does the same, but bringing its merge in takes two seconds of every start. The check leaves only adapters that
    are nothing but this product.

    Args:
        model: a `PreTrainedModel`.
        adapter: checked against that model.
    """
    with safe_open(adapter.path / WEIGHTS_FILE, framework="pt") as tensors, torch.no_grad():
        for name, scaling in adapter.scalings.items():
            down, up = (tensors.get_tensor(f"base_model.model.{name}.lora_{part}.weight").float() for part in "AB")
            delta = (up @ down) * scaling  # [out, in]
            module = model.get_submodule(name)
            module.weight += (delta.T if isinstance(module, Conv1D) else delta).to(module.weight)
