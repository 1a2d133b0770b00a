"""Reads the shapes of a base model's weights without the weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def base_shapes(source: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by its name in the loaded model. Reads only the config.

    Args:
        source: a local folder, or a hub id in the local cache.

    Raises:
        OSError, ValueError: there is no such model, or its config is not valid.
    """
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    model_class: Any = AutoModelForCausalLM
    with torch.device("meta"):
        model = model_class.from_config(config, trust_remote_code=False)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
