"""Whether a LoRA adapter may be served on a base model, decided from its files alone, before any weight is loaded.

peft itself loads an adapter of another base, or of half the layers, without a word, and falls back to pickled weights.
Here everything that is not understood is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from SLMInit.errors import AdapterError

__all__ = ["MAX_RANK", "AdapterError", "AdapterInfo", "check_adapter"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MAX_RANK = 256
KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<matrix>[AB])\.weight")
DTYPES = frozenset({"F32", "F16", "BF16"})
# Others (pissa, olora, corda, ...) mean that the base weights were changed too.
INITS_THAT_KEEP_THE_BASE = (True, False, "gaussian", "orthogonal")


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A checked adapter. Module names are those of the base model, e.g. `model.layers.0.self_attn.q_proj`."""

    path: Path
    base_model: str  # as the adapter names it
    ranks: Mapping[str, int]  # module -> r: A is [r, in], B is [out, r]
    scalings: Mapping[str, float]  # module -> factor on B @ A

    @property
    def rank(self) -> int:
        """The largest rank of its modules."""
        return max(self.ranks.values())


class _Refusal(Exception):
    """Why the adapter cannot be served; `check_adapter` adds the names of adapter and base."""


_Rank = Annotated[int, Field(ge=1, le=MAX_RANK)]


class _LoraConfig(BaseModel):
    """The fields of `adapter_config.json` that are understood; the rest lands in `model_extra` and must be unset."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    peft_type: str | None = None
    base_model_name_or_path: str | None = None
    r: _Rank
    lora_alpha: float
    target_modules: list[str] | str
    exclude_modules: list[str] | str | None = None
    rank_pattern: dict[str, _Rank] = {}
    alpha_pattern: dict[str, float] = {}
    fan_in_fan_out: bool = False
    use_rslora: bool = False
    bias: str = "none"
    init_lora_weights: bool | str = True
    # of no effect on how the adapter computes
    task_type: str | None = None
    inference_mode: bool = True
    lora_dropout: float = 0.0
    revision: str | None = None
    peft_version: str | None = None
    megatron_core: str | None = None
    qalora_group_size: int | None = None


def check_adapter(path: Path, base_name: str, base_model_shapes: Mapping[str, tuple[int, ...]]) -> AdapterInfo:
    """Check a PEFT folder against a base model and say what is in it. Reads the headers of the weights only.

    Args:
        path: folder with `adapter_config.json` and `adapter_model.safetensors`.
        base_name: name, hub id or folder of the base model.
        base_model_shapes: shape of every weight of the base model by its name (`state_dict`), e.g.
            `{"model.layers.0.self_attn.q_proj.weight": (576, 576), ...}`.

    Raises:
        AdapterError: it is no adapter, belongs to another base, or is of a kind that is not served.
    """
    try:
        config = _read_config(path)
        _check_kind(config)
        _check_base_name(config, base_name)
        shapes = _read_shapes(path)
        modules = _modules(base_model_shapes)
        _check_modules(config, shapes, modules)
        ranks = {name: _check_rank(config, name, shapes[name], modules[name]) for name in shapes}
    except _Refusal as err:
        raise AdapterError(f"Adapter {str(path)!r} cannot be used on base model {base_name!r}: {err}") from err
    return AdapterInfo(
        path=path,
        base_model=str(config.base_model_name_or_path),
        ranks=ranks,
        scalings={name: _scaling(config, name, rank) for name, rank in ranks.items()},
    )


def _read_config(path: Path) -> _LoraConfig:
    file = path / CONFIG_FILE
    if not file.is_file():
        raise _Refusal(f"there is no {CONFIG_FILE} in it." if path.is_dir() else "there is no such folder.")
    try:
        return _LoraConfig.model_validate_json(file.read_bytes())
    except ValidationError as err:
        first = err.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise _Refusal(f"{CONFIG_FILE} is not usable: {field}: {first['msg']}.") from err


def _check_kind(config: _LoraConfig) -> None:
    if config.peft_type != "LORA":
        raise _Refusal(f"its peft_type is {config.peft_type}, only LORA is served.")
    if config.bias != "none":
        raise _Refusal(f"it trains biases (bias={config.bias!r}), which is not served.")
    if config.init_lora_weights not in INITS_THAT_KEEP_THE_BASE:
        raise _Refusal(f"init_lora_weights={config.init_lora_weights!r} needs a changed base model.")
    for field, value in (config.model_extra or {}).items():
        if value:
            raise _Refusal(f"it sets {field}, which is not served.")


def _check_base_name(config: _LoraConfig, base_name: str) -> None:
    own = config.base_model_name_or_path
    if not own:
        raise _Refusal(f"its {CONFIG_FILE} names no base model.")
    if _last_part(own) != _last_part(base_name):
        raise _Refusal(f"it was trained on {own!r}. Serve that base model, or train the adapter again on this one.")


def _last_part(name: str) -> str:
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()


def _read_shapes(path: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Module -> {"A": shape, "B": shape}."""
    from safetensors import SafetensorError, safe_open

    file = path / WEIGHTS_FILE
    if not file.is_file():
        raise _Refusal(f"there is no {WEIGHTS_FILE} in it; weights in any other format (.bin, .pt) are never loaded.")
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    try:
        with safe_open(file, framework="np") as weights:
            for key in weights.keys():  # noqa: SIM118 - it is no mapping
                module, matrix = _parse_key(key)
                shapes.setdefault(module, {})[matrix] = _float_shape(key, weights.get_slice(key))
    except (SafetensorError, OSError) as err:
        raise _Refusal(f"{WEIGHTS_FILE} cannot be read: {err}.") from err
    return shapes


def _parse_key(key: str) -> tuple[str, str]:
    match = KEY.fullmatch(key)
    if match is None:
        raise _Refusal(f"{WEIGHTS_FILE} holds {key!r}, which is no LoRA matrix of a linear layer.")
    return match["module"], match["matrix"]


def _float_shape(key: str, tensor: Any) -> tuple[int, ...]:
    if tensor.get_dtype() not in DTYPES:
        raise _Refusal(f"{key!r} is of type {tensor.get_dtype()}, not one of {', '.join(sorted(DTYPES))}.")
    return tuple(tensor.get_shape())


def _modules(base_model_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The base's modules with a weight matrix."""
    return {
        name.removesuffix(".weight"): shape
        for name, shape in base_model_shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }


def _check_modules(config: _LoraConfig, present: Iterable[str], modules: Iterable[str]) -> None:
    """Exactly the modules that the config targets must be there: peft leaves out or ignores the others silently."""
    have, base = set(present), set(modules)
    wanted = {name for name in base if _is_target(config, name)}
    _refuse_any(have - base, "it has weights for modules that the base model lacks")
    _refuse_any(wanted - have, "it lacks weights for modules that it targets")
    _refuse_any(have - wanted, "it has weights for modules that it does not target")
    if not have:
        raise _Refusal(f"{WEIGHTS_FILE} is empty.")


def _refuse_any(names: set[str], what: str) -> None:
    if names:
        shown = ", ".join(sorted(names)[:3])
        raise _Refusal(f"{what}: {shown}{f' and {len(names) - 3} more' if len(names) > 3 else ''}.")


def _is_target(config: _LoraConfig, module: str) -> bool:
    return _matches(config.target_modules, module) and not _matches(config.exclude_modules or [], module)


def _matches(names: list[str] | str, module: str) -> bool:
    """peft's rule: a list holds (ends of) module names, a string is a pattern of the whole name."""
    if isinstance(names, str):
        return _compiled(names).fullmatch(module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as err:
        raise _Refusal(f"{CONFIG_FILE} holds {pattern!r}, which is no pattern: {err}.") from err


def _check_rank(config: _LoraConfig, module: str, lora: Mapping[str, tuple[int, ...]], weight: tuple[int, ...]) -> int:
    """Return the rank after comparing A [r, in] and B [out, r] with the base's weight [out, in]."""
    # GPT-2's Conv1D keeps its weight as [in, out]; peft notes that in fan_in_fan_out.
    wide_out, wide_in = reversed(weight) if config.fan_in_fan_out else weight
    rank = int(_from_pattern(config.rank_pattern, module, config.r))
    expected = {"A": (rank, wide_in), "B": (wide_out, rank)}
    for matrix, shape in expected.items():
        if lora.get(matrix) != shape:
            found = f"is {lora[matrix]}" if matrix in lora else "is missing"
            raise _Refusal(f"lora_{matrix} of {module} {found} where the base model and rank {rank} need {shape}.")
    return rank


def _scaling(config: _LoraConfig, module: str, rank: int) -> float:
    alpha = _from_pattern(config.alpha_pattern, module, config.lora_alpha)
    return alpha / math.sqrt(rank) if config.use_rslora else alpha / rank


def _from_pattern(patterns: Mapping[str, float], module: str, default: float) -> float:
    """peft's rule: the first pattern that matches the end of the module's name."""
    for pattern, value in patterns.items():
        if _compiled(rf"(.*\.)?({pattern})$").match(module):
            return value
    return default
