"""Reads an adapter's `adapter_config.json` and checks that adapters of this kind are supported."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.adapter.targets import Targets, from_patterns

CONFIG_FILE = "adapter_config.json"
# Others (pissa, olora, corda, ...) change the base weights too.
INITS_THAT_KEEP_THE_BASE = (True, False, "gaussian", "orthogonal", "eva", "mica")
MERGE_ADVICE = (
    "Merge it into its base with 'slm merge BASE ADAPTER OUT' (docs/command-line.md) and serve the folder OUT as the "
    "base model."
)


class Refusal(Exception):
    """The reason why an adapter cannot be served; `check_adapter` adds the names of adapter and base."""


_Rank = Annotated[int, Field(ge=1)]


class LoraConfig(BaseModel):
    """The supported fields of `adapter_config.json`; all others end up in `model_extra` and must be unset."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    peft_type: str | None = None
    base_model_name_or_path: str | None = None
    r: _Rank
    lora_alpha: float
    target_modules: list[str] | str
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, _Rank] = {}
    alpha_pattern: dict[str, float] = {}
    use_rslora: bool = False
    ensure_weight_tying: bool = False  # if the embedding or the output layer is adapted, the other one is too
    init_lora_weights: bool | str = True
    # without effect on the adapter's computation
    bias: str = "none"  # trained biases are among the weights, if the base has any
    fan_in_fan_out: bool = False  # known from the shape of each weight
    auto_mapping: dict[str, Any] | None = None
    task_type: str | None = None
    inference_mode: bool = True
    lora_dropout: float = 0.0
    revision: str | None = None
    peft_version: str | None = None
    megatron_core: str | None = None
    qalora_group_size: int | None = None
    eva_config: dict[str, Any] | None = None

    @property
    def targets(self) -> Targets:
        """The modules that it adapts."""
        return Targets(self.target_modules, self.exclude_modules or [], self.layers_to_transform, self.layers_pattern)

    @property
    def base_advice(self) -> str:
        """Advice for an adapter that does not fit."""
        named = f", {self.base_model_name_or_path!r}" if self.base_model_name_or_path else ""
        return f"Serve the base model that it was trained on{named}."

    def rank_of(self, module: str) -> int:
        """Return the rank of one module's matrices."""
        return int(from_patterns(self.rank_pattern, module, self.r))

    def scaling_of(self, module: str, rank: int) -> float:
        """Return the scaling factor for the product of one module's matrices."""
        alpha = from_patterns(self.alpha_pattern, module, self.lora_alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_config(folder: Path) -> LoraConfig:
    """Read a PEFT folder's config.

    Raises:
        Refusal: the config is missing or invalid, or its kind is not supported.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        found = f"the folder has no {CONFIG_FILE}" if folder.is_dir() else "the folder does not exist"
        raise Refusal(f"{found}. Use the folder that peft's save_pretrained or the training script wrote.")
    try:
        config = LoraConfig.model_validate_json(file.read_bytes())
    except ValidationError as err:
        first = err.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise Refusal(f"{CONFIG_FILE} is not valid: {field}: {first['msg']}.") from err
    _check_kind(config)
    return config


def _check_kind(config: LoraConfig) -> None:
    if config.peft_type != "LORA":
        raise Refusal(f"its peft_type is {config.peft_type}; only LORA is supported. {MERGE_ADVICE}")
    if config.init_lora_weights not in INITS_THAT_KEEP_THE_BASE:
        raise Refusal(
            f"init_lora_weights={config.init_lora_weights!r} also changed the base model's weights. Save it as a plain "
            f"LoRA (peft: save_pretrained with path_initial_model_for_weight_conversion). Or: {MERGE_ADVICE}"
        )
    for field, value in (config.model_extra or {}).items():
        if value:
            raise Refusal(f"it sets {field}, which is not supported. {MERGE_ADVICE}")
