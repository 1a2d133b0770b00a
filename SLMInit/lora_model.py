"""Creates, describes and saves a base model with LoRA matrices."""

from __future__ import annotations

import warnings
from copy import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, set_seed
from transformers.pytorch_utils import Conv1D

from models.errors import BaseModelError
from SLMInit.options import TrainingOptions


def load_lora_model(source: str, name: str, options: TrainingOptions) -> Any:
    """Load the base model in float32 and add LoRA matrices.

    Args:
        source: folder or hub id for `from_pretrained`.
        name: the user's name for the base model, which is recorded in the adapter.
        options: rank, alpha and seed.

    Raises:
        BaseModelError: its weights cannot be loaded.
    """
    set_seed(options.seed)
    try:
        base = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as err:
        raise BaseModelError(f"Base model {name!r} cannot be loaded: {err}") from err
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=target_modules(base.config.model_type),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.modules()),
    )
    with warnings.catch_warnings():
        # peft 0.21 uses a name that is deprecated in transformers 5.23
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        model = get_peft_model(base, config)
    model.peft_config["default"].base_model_name_or_path = name
    return model


def target_modules(model_type: str) -> list[str] | str:
    """Return the layers that get LoRA matrices: peft's choice for the architecture, else all linear but the output.

    For GPT-2 (and distilgpt2, DialoGPT) this is the fused `c_attn`, for Llama-like models `q_proj` and `v_proj`.
    """
    chosen: Any = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type, "all-linear")
    return chosen if isinstance(chosen, str) else list(chosen)


def describe_lora(model: Any) -> str:
    """Return a one-line description of the trained weights."""
    config = model.peft_config["default"]
    targets = config.target_modules
    names = targets if isinstance(targets, str) else ", ".join(sorted(targets))
    trained, total = model.get_nb_trainable_parameters()
    return f"LoRA of rank {config.r} on {names}: {trained:,} of {total:,} weights are trained"


def save_lora(model: Any, folder: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`.

    peft's own `save_pretrained` also queries the model hub for the base's vocabulary, and overwrites an existing README
    with an empty model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "adapter_model.safetensors"
    save_file(get_peft_model_state_dict(model, save_embedding_layers=False), weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # only the owner could read it, but a container reads it as another user
    config = copy(model.peft_config["default"])
    config.inference_mode = True
    config.save_pretrained(str(folder))
