"""Reads parts of a base model's files with torch: the shapes of all weights, or a single weight."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from models.base_model import model_folder


def keep_to_one_thread() -> None:
    """Let torch compute with one thread: its idle ones would compete with the threads of the native kernels."""
    torch.set_num_threads(1)


def base_shapes(source: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by its name in the loaded model.

    Args:
        source: a local folder, or a hub id in the local cache.

    Raises:
        OSError, ValueError: there is no such model, or its config is not valid.
    """
    return {name: tuple(value.shape) for name, value in _empty_model(source).state_dict().items()}


def base_weight(source: str, module: str) -> Tensor:
    """Return the weight of a module, in the number format of its file.

    Args:
        source: as of `base_shapes`.
        module: its name in the loaded model. If modules share their weight, any of their names may be in the file.

    Raises:
        OSError, ValueError: as `base_shapes`.
    """
    model = _empty_model(source)
    weight = model.get_submodule(module).weight
    shared = [name for name, value in model.named_parameters(remove_duplicate=False) if value is weight]
    names = {*shared, *(name.removeprefix(f"{model.base_model_prefix}.") for name in shared)}
    for file in sorted(model_folder(source).glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if found := names.intersection(tensors.keys()):
                value: Tensor = tensors.get_tensor(min(found))
                return value
    return _loaded_weight(source, module)


def _loaded_weight(source: str, module: str) -> Tensor:
    """Load the whole model for a weight with another name in its file, such as GPT-NeoX's output layer."""
    model_class: Any = AutoModelForCausalLM
    model = model_class.from_pretrained(
        source, dtype="auto", use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    weight: Tensor = model.get_submodule(module).weight.detach()
    return weight


def _empty_model(source: str) -> Any:
    """Return the model without the values of its weights. Reads only the config."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    model_class: Any = AutoModelForCausalLM
    with torch.device("meta"):
        return model_class.from_config(config, trust_remote_code=False)
