"""An adapter's `adapter_config.json`: which fields are understood, and which kinds of adapter are served."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from SLMInit.adapter_targets import Targets, from_patterns

CONFIG_FILE = "adapter_config.json"
# Others (pissa, olora, corda, ...) mean that the base weights were changed too.
INITS_THAT_KEEP_THE_BASE = (True, False, "gaussian", "orthogonal", "eva", "mica")
MERGE_ADVICE = (
    "Merge it into its base with peft (model.merge_and_unload().save_pretrained(FOLDER)) and serve that folder as the "
    "base model."
)


class Refusal(Exception):
    """Why an adapter cannot be served; `check_adapter` adds the names of adapter and base."""


_Rank = Annotated[int, Field(ge=1)]


class LoraConfig(BaseModel):
    """The fields of `adapter_config.json` that are understood; the rest lands in `model_extra` and must be unset."""

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
    ensure_weight_tying: bool = False  # of embedding and output layer, if one of them is adapted: the other is then too
    init_lora_weights: bool | str = True
    # of no effect on how the adapter computes
    bias: str = "none"  # trained biases are in the weights, if the base has any
    fan_in_fan_out: bool = False  # the shape of each weight says it
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
        """Which modules it adapts."""
        return Targets(self.target_modules, self.exclude_modules or [], self.layers_to_transform, self.layers_pattern)

    @property
    def base_advice(self) -> str:
        """What would help if it does not fit."""
        named = f", {self.base_model_name_or_path!r}" if self.base_model_name_or_path else ""
        return f"Serve the base model that it was trained on{named}."

    def rank_of(self, module: str) -> int:
        """The rank of one module's matrices."""
        return int(from_patterns(self.rank_pattern, module, self.r))

    def scaling_of(self, module: str, rank: int) -> float:
        """The factor on the product of one module's matrices."""
        alpha = from_patterns(self.alpha_pattern, module, self.lora_alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_config(folder: Path) -> LoraConfig:
    """Read a PEFT folder's config.

    Raises:
        Refusal: there is none, or it is of a kind that is not served.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        found = f"there is no {CONFIG_FILE} in it" if folder.is_dir() else "there is no such folder"
        raise Refusal(f"{found}. Name the folder that peft's save_pretrained or the training script wrote.")
    try:
        config = LoraConfig.model_validate_json(file.read_bytes())
    except ValidationError as err:
        first = err.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise Refusal(f"{CONFIG_FILE} is not usable: {field}: {first['msg']}.") from err
    _check_kind(config)
    return config


def _check_kind(config: LoraConfig) -> None:
    if config.peft_type != "LORA":
        raise Refusal(f"its peft_type is {config.peft_type}, only LORA is served. {MERGE_ADVICE}")
    if config.init_lora_weights not in INITS_THAT_KEEP_THE_BASE:
        raise Refusal(
            f"init_lora_weights={config.init_lora_weights!r} changed the base model's weights too. Save it as a plain "
            f"LoRA (peft: save_pretrained with path_initial_model_for_weight_conversion). Or: {MERGE_ADVICE}"
        )
    for field, value in (config.model_extra or {}).items():
        if value:
            raise Refusal(f"it sets {field}, which is not served. {MERGE_ADVICE}")
