"""Builds the config of a GGUF file's model: transformers' result, plus the settings that transformers ignores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.gguf.file import GgufFile

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedConfig

LLAMA3_FREQUENCIES: dict[str, Any] = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
FREQUENCY_FACTORS = "rope_freqs.weight"
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
POSITION_TENSORS = (FREQUENCY_FACTORS, LONG_FACTORS, SHORT_FACTORS)
"""Tensors that belong to the config, not to the weights."""
TRACES = ("_model_name_or_path", "n_ctx", "feed_forward_length")  # set by transformers' reader but used by no model
PARTLY_ROTARY = ("phi3", "stablelm", "nemotron")  # in all others the rotary width equals the head size
GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3": 62}


def read_config(file: GgufFile) -> PreTrainedConfig:
    """Return the config that the file's weights were trained with.

    Raises:
        BaseModelError: the file scales its positions in an unsupported way.
        ValueError, LookupError, TypeError, RuntimeError: transformers does not support this kind of model.
    """
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(file.path.parent, gguf_file=file.path.name)
    values = _exact_decimals(config.to_dict())
    for name in TRACES:
        values.pop(name, None)
    values |= _sizes(file, values) | _special_token_ids(file)
    if rope := values.get("rope_parameters"):
        _complete_rope(file, rope, values["max_position_embeddings"])
    return type(config).from_dict(values)  # type: ignore[no-any-return]


def _exact_decimals(value: Any) -> Any:
    """Undo the float32 rounding of decimals in the file: 9.99999974e-06 was 1e-05."""
    import numpy as np

    if isinstance(value, dict):
        return {key: _exact_decimals(item) for key, item in value.items()}
    if isinstance(value, float) and float(np.float32(value)) == value:
        return float(str(np.float32(value)))
    return value


def _sizes(file: GgufFile, values: dict[str, Any]) -> dict[str, Any]:
    """Return the sizes that transformers leaves at the default of its config class, which is for another model."""
    sizes: dict[str, Any] = {"vocab_size": int(file.tensors["token_embd.weight"].shape[-1])}
    key_length = file.setting("attention.key_length")
    if key_length and "head_dim" in values and file.architecture != "gemma4":
        sizes["head_dim"] = key_length
    if file.architecture == "gpt2":
        sizes["n_positions"] = file.setting("context_length")
        sizes["n_inner"] = file.setting("feed_forward_length")
    if file.architecture == "phi3":
        sizes["sliding_window"] = file.setting("attention.sliding_window") or None
        if original := file.setting("rope.scaling.original_context_length"):
            sizes["original_max_position_embeddings"] = original
    if key_length and file.architecture in GEMMA_27B_LAYERS:
        sizes["query_pre_attn_scalar"] = _gemma_query_scale(file, key_length)
    return sizes


def _special_token_ids(file: GgufFile) -> dict[str, int | None]:
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    return {f"{ours}_token_id": file.token_setting(f"{theirs}_token_id") for ours, theirs in names.items()}


def _gemma_query_scale(file: GgufFile, key_length: int) -> int:
    """Return the query scale, which no file has: the head size, or in the 27B models the width per head."""
    if file.setting("block_count") == GEMMA_27B_LAYERS[file.architecture]:
        return int(file.setting("embedding_length") // file.setting("attention.head_count"))
    return key_length


def _complete_rope(file: GgufFile, rope: dict[str, Any], context: int) -> None:
    """Set the rotary embedding; if it differs by layer type, mainly that of the full attention layers."""
    everywhere = rope.get("full_attention", rope)
    if base := file.setting("rope.freq_base"):
        everywhere["rope_theta"] = _exact_decimals(base)
    if "sliding_attention" in rope and (base := file.setting("rope.freq_base_swa")):
        rope["sliding_attention"]["rope_theta"] = _exact_decimals(base)
    if file.architecture in PARTLY_ROTARY and (width := file.setting("rope.dimension_count")):
        everywhere["partial_rotary_factor"] = width / _head_size(file)
    everywhere.update(_scaling(file, everywhere, context))


def _head_size(file: GgufFile) -> int:
    return int(
        file.setting("attention.key_length") or file.setting("embedding_length") // file.setting("attention.head_count")
    )


def _scaling(file: GgufFile, rope: dict[str, Any], context: int) -> dict[str, Any]:
    """Return the scaling of the angles beyond the original context length, in transformers' terms."""
    if FREQUENCY_FACTORS in file.tensors:
        return _llama3_scaling(file, rope["rope_theta"])
    if LONG_FACTORS in file.tensors:
        return _long_scaling(file, context)
    kind = file.setting("rope.scaling.type") or "none"
    factor = file.setting("rope.scaling.factor") or file.setting("rope.scale_linear") or 1.0
    if kind in ("none", "linear") and factor == 1.0:
        return {}
    if kind in ("none", "linear"):
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return _yarn_scaling(file, factor)
    raise file.refusal(f"it scales its positions by {kind!r}, which is not supported. Name the model's own folder.")


def _llama3_scaling(file: GgufFile, theta: float) -> dict[str, Any]:
    """Return the parameters from which transformers computes the factors, after checking that they give the file's."""
    import numpy as np

    factors = file.tensors[FREQUENCY_FACTORS].data
    scaling = LLAMA3_FREQUENCIES | {"rope_type": "llama3", "factor": float(factors.max())}
    if not np.allclose(factors, _llama3_factors(len(factors), theta, scaling["factor"]), rtol=1e-4):
        raise file.refusal("it uses a custom scaling of its positions. Name the model's own folder instead.")
    return scaling


def _llama3_factors(count: int, theta: float, factor: float) -> np.ndarray[Any, Any]:
    """Return the divisor of each frequency: 1 for the fast ones, `factor` for the slow ones, a mixture in between."""
    import numpy as np

    low, high, original = LLAMA3_FREQUENCIES.values()
    turns = original * theta ** (-np.arange(count) / count) / (2 * np.pi)  # over the original context
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    factors: np.ndarray[Any, Any] = 1 / ((1 - kept) / factor + kept)
    return factors


def _long_scaling(file: GgufFile, context: int) -> dict[str, Any]:
    original = file.setting("rope.scaling.original_context_length") or context
    return {
        "rope_type": "longrope",
        "long_factor": _exact_list(file.tensors[LONG_FACTORS].data),
        "short_factor": _exact_list(file.tensors[SHORT_FACTORS].data),
        "factor": context / original,
        "original_max_position_embeddings": original,
    }


def _exact_list(numbers: np.ndarray[Any, Any]) -> list[float]:
    return [_exact_decimals(float(number)) for number in numbers]


def _yarn_scaling(file: GgufFile, factor: float) -> dict[str, Any]:
    optional = {
        "original_max_position_embeddings": file.setting("rope.scaling.original_context_length"),
        "attention_factor": file.setting("rope.scaling.yarn_attn_factor"),
        "beta_fast": file.setting("rope.scaling.yarn_beta_fast"),
        "beta_slow": file.setting("rope.scaling.yarn_beta_slow"),
    }
    said = {name: _exact_decimals(value) for name, value in optional.items() if value is not None}
    return {"rope_type": "yarn", "factor": factor} | said
