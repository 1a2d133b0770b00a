"""Whether a LoRA adapter may be served on a base model, decided from its files alone, before any weight is loaded.

peft itself loads an adapter of another base, or of half the layers, without a word, and falls back to pickled weights.
Here everything that is not understood is refused by name. What counts is whether the weights fit the base; the name of
the base that an adapter was trained on differs between machines, and only brings a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SLMInit.adapter_config import MERGE_ADVICE, LoraConfig, Refusal, read_config
from SLMInit.adapter_targets import ALL_LINEAR, BadPattern, targeted
from SLMInit.errors import AdapterError

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

    `warning` says what fits but looks odd; None if nothing does.
    """

    path: Path
    base_model: str | None  # as the adapter names it
    ranks: Mapping[str, int]  # module -> r: A is [r, in], B is [out, r]
    scalings: Mapping[str, float]  # module -> factor on B @ A
    embeddings: frozenset[str]  # those of the modules that are embeddings: A is [r, tokens], B is [size, r]
    base_layers: frozenset[str]  # those of the modules that bring a base weight of their own, to be used instead
    warning: str | None

    @property
    def rank(self) -> int:
        """The largest rank of its modules."""
        return max(self.ranks.values())


_Shape = tuple[int, ...]
_Tensors = dict[str, _Shape]  # of one module: what the end of a key names -> shape


def check_adapter(path: Path, base_name: str, base_model_shapes: Mapping[str, tuple[int, ...]]) -> AdapterInfo:
    """Check a PEFT folder against a base model and say what is in it. Reads the headers of the weights only.

    Args:
        path: folder with `adapter_config.json` and `adapter_model.safetensors`.
        base_name: name, hub id or folder of the base model.
        base_model_shapes: shape of every weight of the base model by its name (`state_dict`), e.g.
            `{"model.layers.0.self_attn.q_proj.weight": (576, 576), ...}`.

    Raises:
        AdapterError: it is no adapter, does not fit this base, or is of a kind that is not served; the text says what
            would help.
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
        warning=_doubt(config.base_model_name_or_path, path, base_name),
    )


def _doubt(named: str | None, path: Path, base_name: str) -> str | None:
    """A warning where the adapter names another base. Its weights fit, or it would have been refused."""
    if not named or _short_name(named) == _short_name(base_name):
        return None
    return (
        f"Adapter {str(path)!r} was trained on {named!r} by its own account. Its weights fit the base model "
        f"{base_name!r}, so it is served on that. If the two are different models, its answers will be poor."
    )


def _short_name(name: str) -> str:
    """What is left of a name when the machine is taken away: of a folder or hub id the last part."""
    parts = [part for part in re.split(r"[/\\]", name) if part]
    if len(parts) > 2 and parts[-2] == "snapshots":  # models--org--name/snapshots/commit, as in the hub's cache
        parts = parts[-3].split("--")
    return parts[-1].lower() if parts else ""


def _read_shapes(path: Path) -> dict[str, _Tensors]:
    """Module -> its tensors."""
    from safetensors import SafetensorError, safe_open

    file = path / WEIGHTS_FILE
    if not file.is_file():
        raise Refusal(
            f"there is no {WEIGHTS_FILE} in it; weights in any other format (.bin, .pt) are never loaded. "
            f"{CONVERT_ADVICE}"
        )
    shapes: dict[str, _Tensors] = {}
    try:
        with safe_open(file, framework="np") as weights:
            for key in weights.keys():  # noqa: SIM118 - it is no mapping
                module, tensor = _parse_key(key)
                shapes.setdefault(module, {})[tensor] = _float_shape(key, weights.get_slice(key))
    except (SafetensorError, OSError) as err:
        raise Refusal(f"{WEIGHTS_FILE} cannot be read: {err}.") from err
    return shapes


def _parse_key(key: str) -> tuple[str, str]:
    match = KEY.fullmatch(key)
    if key.endswith(".bias"):
        raise Refusal(f"it trains biases ({key!r}), which is not served. {MERGE_ADVICE}")
    if match is None:
        raise Refusal(f"{WEIGHTS_FILE} holds {key!r}, which is not a LoRA matrix of a linear layer. {MERGE_ADVICE}")
    return match["module"], match["tensor"]


def _float_shape(key: str, tensor: Any) -> _Shape:
    if tensor.get_dtype() not in DTYPES:
        raise Refusal(
            f"{key!r} is of type {tensor.get_dtype()}, not one of {', '.join(sorted(DTYPES))}. Save it in one of these."
        )
    return tuple(tensor.get_shape())


def _modules(base_model_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, _Shape]:
    """The base's modules with a weight matrix."""
    return {
        name.removesuffix(".weight"): shape
        for name, shape in base_model_shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }


def _check_modules(config: LoraConfig, present: Iterable[str], modules: Iterable[str]) -> None:
    """Exactly the modules that the config targets must be there: peft leaves out or ignores the others silently."""
    have, base = set(present), set(modules)
    if not have:
        raise Refusal(f"{WEIGHTS_FILE} is empty.")
    _refuse_any(have - base, "it has weights for modules that the base model lacks", config.base_advice)
    if config.target_modules == ALL_LINEAR:
        return
    wanted = targeted(config.targets, base)
    _refuse_any(wanted - have, "it lacks weights for modules that it targets", config.base_advice)
    if not config.ensure_weight_tying:
        _refuse_any(have - wanted, "it has weights for modules that it does not target", "Its two files do not agree.")


def _refuse_any(names: set[str], what: str, advice: str) -> None:
    if names:
        shown = ", ".join(sorted(names)[:3])
        raise Refusal(f"{what}: {shown}{f' and {len(names) - 3} more' if len(names) > 3 else ''}. {advice}")


def _check_shapes(config: LoraConfig, module: str, found: _Tensors, weight: _Shape) -> int:
    """Return the rank after comparing A [r, in] and B [out, r] with the base's weight.

    That is [out, in] of a linear layer, [in, out] of GPT-2's Conv1D, and [tokens, size] = [in, out] of an embedding.
    """
    rank = config.rank_of(module)
    names = EMBEDDING if EMBEDDING[0] in found or EMBEDDING[1] in found else LINEAR
    sizes = [weight] if names is EMBEDDING else [weight[::-1], weight]  # in, out
    fits: list[_Tensors] = [{names[0]: (rank, width_in), names[1]: (width_out, rank)} for width_in, width_out in sizes]
    if {name: found.get(name) for name in names} not in fits:
        raise Refusal(_misfit(config, module, found, fits[0], rank))
    if found.get(BASE_LAYER, weight) != weight:
        raise Refusal(
            f"it was trained with another {module}, {found[BASE_LAYER]} instead of {weight}, as after a change of the "
            f"vocabulary. {MERGE_ADVICE}"
        )
    return rank


def _misfit(config: LoraConfig, module: str, found: _Tensors, expected: _Tensors, rank: int) -> str:
    name, shape = next((name, shape) for name, shape in expected.items() if found.get(name) != shape)
    there = f"is {found[name]}" if name in found else "is missing"
    return (
        f"{name.removesuffix('.weight')} of {module} {there} where the base model and rank {rank} need {shape}. "
        f"{config.base_advice}"
    )
