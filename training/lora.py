"""Creates, loads and saves LoRA adapters."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import set_seed
from transformers.pytorch_utils import Conv1D

from models.adapter.check import WEIGHTS_FILE, check_adapter
from training.base import Base
from training.quiet import without_deprecations
from training.recipe import Recipe

NAME = "default"  # peft's own name for the adapter that is trained


def new_adapter(model: Any, base: Base, recipe: Recipe, seed: int) -> Any:
    """Return the model with new LoRA matrices on all linear layers but the output layer."""
    set_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules="all-linear",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    with without_deprecations():
        adapted = get_peft_model(model, config)
    adapted.peft_config[NAME].base_model_name_or_path = base.name
    return adapted


def load_adapter(model: Any, base: Base, folder: Path, *, is_trainable: bool = False) -> Any:
    """Return the model with a saved adapter.

    Raises:
        AdapterError: it does not fit the base, or is of an unsupported kind.
    """
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    check_adapter(folder, base.name, shapes)
    with without_deprecations():
        adapted = PeftModel.from_pretrained(model, str(folder), adapter_name=NAME, is_trainable=is_trainable)
    adapted.peft_config[NAME].base_model_name_or_path = base.name
    return adapted


def save_adapter(model: Any, folder: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`.

    peft's own `save_pretrained` also queries the model hub for the base's vocabulary, and overwrites an existing README
    with an empty model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS_FILE
    state = get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)
    save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # only the owner could read it, but a container reads it as another user
    config = copy(model.peft_config[NAME])
    config.inference_mode = True
    config.save_pretrained(str(folder))
