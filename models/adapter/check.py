"""Checks from its files alone whether a LoRA adapter can be served on a base model, before any weight is loaded.

peft itself silently loads an adapter of another base, or of half the layers, and falls back to pickled weights. Here
everything unknown is rejected by name. The weights must fit the base; the name of the base that the adapter was trained
on differs between machines, so a different name is only a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.adapter.config import MERGE_ADVICE, LoraConfig, Refusal, read_config
from models.adapter.targets import ALL_LINEAR, BadPattern, targeted
from models.errors import AdapterError

__all__ = ["AdapterError", "AdapterInfo", "check_adapter"]

WEIGHTS_FILE = "adapter_model.safetensors"
KEY = re.compile(
    r"base_model\.model\.(?P<module>.+)\.(?P<tensor>lora_[AB]\.weight|lora_embedding_[AB]|base_layer\.weight)"
)
LINEAR, EMBEDDING = ("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B")
BASE_LAYER = "base_layer.weight"
DTYPES = frozenset({"F32", "F16", "BF16"})
CONVERT_ADVICE = "Load it with peft and save it again: save_pretrained writes safetensors."


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A checked adapter. Module names are those of the base model, e.g. `model.layers.0.self_attn.q_proj`.

    `warning` describes anything suspicious that is not an error; None if there is nothing.
    """

    path: Path
    base_model: str | None  # as the adapter names it
    ranks: Mapping[str, int]  # module -> r: A is [r, in], B is [out, r]
    scalings: Mapping[str, float]  # module -> factor on B @ A
    embeddings: frozenset[str]  # the modules that are embeddings: A is [r, tokens], B is [size, r]
    base_layers: frozenset[str]  # the modules that come with their own base weight, which replaces the base model's
    warning: str | None

    @property
    def rank(self) -> int:
        """The largest rank of its modules."""
        return max(self.ranks.values())


_Shape = tuple[int, ...]
_Tensors = dict[str, _Shape]  # of one module: last part of the key -> shape


def check_adapter(path: Path, base_name: str, base_model_shapes: Mapping[str, tuple[int, ...]]) -> AdapterInfo:
    """Check a PEFT folder against a base model and return a description of it. Reads only the weights' headers.

    Args:
        path: folder with `adapter_config.json` and `adapter_model.safetensors`.
        base_name: name, hub id or folder of the base model.
        base_model_shapes: shape of every weight of the base model by its name (`state_dict`), e.g.
            `{"model.layers.0.self_attn.q_proj.weight": (576, 576), ...}`.

    Raises:
        AdapterError: it is not an adapter, does not fit this base, or is of an unsupported kind; the text says what
            to do.
    """
    try:
        config = read_config(path)
        tensors = _read_shapes(path)
        modules = _modules(base_model_shapes)
        _check_modules(config, tensors, modules)
        ranks = {name: _check_shapes(config, name, tensors[name], modules[name]) for name in tensors}
        scalings = {name: config.scaling_of(name, rank) for name, rank in ranks.items()}
    except (Refusal, BadPattern) as err:
        raise AdapterError(f"Adapter {str(path)!r} cannot be used on base model {base_name!r}: {err}") from err
    return AdapterInfo(
        path=path,
        base_model=config.base_model_name_or_path,
        ranks=ranks,
        scalings=scalings,
        embeddings=frozenset(name for name, found in tensors.items() if EMBEDDING[0] in found),
        base_layers=frozenset(name for name, found in tensors.items() if BASE_LAYER in found),
        warning=_base_warning(config.base_model_name_or_path, path, base_name),
    )


def _base_warning(named: str | None, path: Path, base_name: str) -> str | None:
    """Return a warning if the adapter names another base. At this point its weights are known to fit."""
    if not named or short_name(named) == short_name(base_name):
        return None
    return (
        f"Adapter {str(path)!r} says that it was trained on {named!r}. Its weights fit the base model {base_name!r}, "
        "so it is served on that one. If the two are different models, its responses will be poor."
    )


def short_name(name: str) -> str:
    """Return the machine-independent part of a name: the last part of a folder or hub id."""
    parts = [part for part in re.split(r"[/\\]", name) if part]
    if len(parts) > 2 and parts[-2] == "snapshots":  # models--org--name/snapshots/commit, as in the hub's cache
        parts = parts[-3].split("--")
    return parts[-1].lower() if parts else ""


def _read_shapes(path: Path) -> dict[str, _Tensors]:
    """Return the tensors of each module."""
    from safetensors import SafetensorError, safe_open

    file = path / WEIGHTS_FILE
    if not file.is_file():
        raise Refusal(
            f"the folder has no {WEIGHTS_FILE}; weights in other formats (.bin, .pt) are never loaded. {CONVERT_ADVICE}"
        )
    shapes: dict[str, _Tensors] = {}
    try:
        with safe_open(file, framework="np") as weights:
            for key in weights.keys():  # noqa: SIM118 - it is not a mapping
                module, tensor = _parse_key(key)
                shapes.setdefault(module, {})[tensor] = _float_shape(key, weights.get_slice(key))
    except (SafetensorError, OSError) as err:
        raise Refusal(f"{WEIGHTS_FILE} cannot be read: {err}.") from err
    return shapes


def _parse_key(key: str) -> tuple[str, str]:
    match = KEY.fullmatch(key)
    if key.endswith(".bias"):
        raise Refusal(f"it has trained biases ({key!r}), which are not supported. {MERGE_ADVICE}")
    if match is None:
        raise Refusal(f"{WEIGHTS_FILE} holds {key!r}, which is not a LoRA matrix of a linear layer. {MERGE_ADVICE}")
    return match["module"], match["tensor"]


def _float_shape(key: str, tensor: Any) -> _Shape:
    if tensor.get_dtype() not in DTYPES:
        raise Refusal(f"{key!r} has the type {tensor.get_dtype()}. Save it as one of {', '.join(sorted(DTYPES))}.")
    return tuple(tensor.get_shape())


def _modules(base_model_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, _Shape]:
    """Return the base's modules that have a weight matrix, with its shape."""
    return {
        name.removesuffix(".weight"): shape
        for name, shape in base_model_shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }


def _check_modules(config: LoraConfig, present: Iterable[str], modules: Iterable[str]) -> None:
    """Check that exactly the targeted modules are present: peft silently ignores missing and surplus ones."""
    have, base = set(present), set(modules)
    if not have:
        raise Refusal(f"{WEIGHTS_FILE} is empty.")
    _refuse_any(have - base, "it has weights for modules that the base model does not have", config.base_advice)
    if config.target_modules == ALL_LINEAR:
        return
    wanted = targeted(config.targets, base)
    _refuse_any(wanted - have, "it lacks weights for modules that it targets", config.base_advice)
    if not config.ensure_weight_tying:
        _refuse_any(have - wanted, "it has weights for modules that it does not target", "Its two files disagree.")


def _refuse_any(names: set[str], what: str, advice: str) -> None:
    if names:
        shown = ", ".join(sorted(names)[:3])
        raise Refusal(f"{what}: {shown}{f' and {len(names) - 3} more' if len(names) > 3 else ''}. {advice}")


def _check_shapes(config: LoraConfig, module: str, found: _Tensors, weight: _Shape) -> int:
    """Return the rank, after comparing A [r, in] and B [out, r] with the base's weight.

    The weight is [out, in] for a linear layer, [in, out] for GPT-2's Conv1D, and [tokens, size] = [in, out] for an
    embedding.
    """
    rank = config.rank_of(module)
    names = EMBEDDING if EMBEDDING[0] in found or EMBEDDING[1] in found else LINEAR
    sizes = [weight] if names is EMBEDDING else [weight[::-1], weight]  # in, out
    fits: list[_Tensors] = [{names[0]: (rank, width_in), names[1]: (width_out, rank)} for width_in, width_out in sizes]
    if {name: found.get(name) for name in names} not in fits:
        raise Refusal(_misfit(config, module, found, fits[0], rank))
    if found.get(BASE_LAYER, weight) != weight:
        raise Refusal(
            f"it was trained with a different {module} (shape {found[BASE_LAYER]} instead of {weight}), for example "
            f"after a change of the vocabulary. {MERGE_ADVICE}"
        )
    return rank


def _misfit(config: LoraConfig, module: str, found: _Tensors, expected: _Tensors, rank: int) -> str:
    name, shape = next((name, shape) for name, shape in expected.items() if found.get(name) != shape)
    there = f"is {found[name]}" if name in found else "is missing"
    return (
        f"{name.removesuffix('.weight')} of {module} {there}; the base model and rank {rank} need {shape}. "
        f"{config.base_advice}"
    )
