"""Reads the description of a model for embeddings, as sentence-transformers writes it; loads no weights.

modules.json lists the parts in order: a transformer, a pooling, and perhaps dense layers and a normalization.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.errors import EncoderError

MODULES = "modules.json"
# Of these the first that is there says how texts are cut; the names are those of old versions, too.
TEXT_SETTINGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
PROMPTS = "config_sentence_transformers.json"


class Pool(StrEnum):
    """How the vectors of an input's tokens become one."""

    CLS = "cls"  # the first token's
    LAST = "lasttoken"
    MAX = "max"
    MEAN = "mean"
    MEAN_SQRT = "mean_sqrt_len_tokens"  # the sum, divided by the root of their number
    WEIGHTED = "weightedmean"  # later tokens weigh more


_OLD_NAMES = {
    "pooling_mode_cls_token": Pool.CLS,
    "pooling_mode_max_tokens": Pool.MAX,
    "pooling_mode_mean_tokens": Pool.MEAN,
    "pooling_mode_mean_sqrt_len_tokens": Pool.MEAN_SQRT,
    "pooling_mode_weightedmean_tokens": Pool.WEIGHTED,
    "pooling_mode_lasttoken": Pool.LAST,
}  # in the order in which several are joined


@dataclass(frozen=True, slots=True)
class Pooling:
    """The pooling; the vectors of several modes are joined."""

    modes: tuple[Pool, ...]


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer. `activation` is the full name of a class of torch; empty: none."""

    folder: Path
    activation: str


@dataclass(frozen=True, slots=True)
class Normalize:
    """Makes the length of each vector 1."""


Layer = Pooling | Dense | Normalize


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """A model for embeddings.

    Attributes:
        transformer: the folder of the transformer and its tokenizer.
        layers: what follows it; the first is the pooling.
        max_tokens: the most tokens of an input; None: what the transformer and the tokenizer say.
        lower_case: whether texts are put into lower case.
        prompts: texts that can be put before an input, by name.
        default_prompt: the name of the one that is used unless another is asked for.
    """

    transformer: Path
    layers: tuple[Layer, ...]
    max_tokens: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def read_encoder(folder: Path) -> EncoderSpec:
    """Read a folder.

    Raises:
        EncoderError: it has no such model, or one with parts that are not known.
    """
    if not (folder / MODULES).is_file():
        raise EncoderError(
            f"{str(folder)!r} is no model for embeddings: it has no {MODULES}. Name the folder of a "
            "sentence-transformers model (SLM_EMBED_MODEL)."
        )
    (_, transformer), *others = _modules(folder)
    settings = next((name for name in TEXT_SETTINGS if (transformer / name).is_file()), None)
    texts = {} if settings is None else _object(transformer / settings)
    asked = _object(folder / PROMPTS) if (folder / PROMPTS).is_file() else {}
    return EncoderSpec(
        transformer,
        tuple(_layer(kind, part) for kind, part in others),
        max_tokens=texts.get("max_seq_length"),
        lower_case=bool(texts.get("do_lower_case")),
        prompts={str(name): str(text) for name, text in (asked.get("prompts") or {}).items()},
        default_prompt=asked.get("default_prompt_name"),
    )


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Return the kind and the folder of each part: a transformer, a pooling, and others."""
    found = _parsed(folder / MODULES)
    try:
        parts = [(str(one["type"]).rpartition(".")[2], folder / str(one["path"])) for one in found]
    except (TypeError, KeyError) as err:
        raise EncoderError(f"{str(folder / MODULES)!r} is not a list of modules with a type and a path.") from err
    kinds = [kind for kind, _ in parts]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise EncoderError(
            f"{str(folder / MODULES)!r} lists {', '.join(kinds) or 'nothing'}; the first two must be Transformer and "
            "Pooling."
        )
    return parts


def _layer(kind: str, folder: Path) -> Layer:
    match kind:
        case "Pooling":
            return Pooling(_modes(folder / "config.json"))
        case "Dense":
            return Dense(folder, _activation(_object(folder / "config.json")))
        case "Normalize":
            return Normalize()
    raise EncoderError(f"The module {kind!r} of {str(folder)!r} is not supported; Pooling, Dense and Normalize are.")


def _modes(path: Path) -> tuple[Pool, ...]:
    config = _object(path)
    if config.get("include_prompt", True) is not True:
        raise EncoderError(f"include_prompt in {str(path)!r} must be true: prompts are always part of the input.")
    named = config.get("pooling_mode")
    names: Sequence[Any] = [mode for old, mode in _OLD_NAMES.items() if config.get(old)]
    if named is not None:
        names = [named] if isinstance(named, str) else named
    try:
        modes = tuple(Pool(name) for name in names)
    except ValueError as err:
        raise EncoderError(f"pooling_mode in {str(path)!r} must be among {', '.join(Pool)}; got {named!r}.") from err
    if not modes:
        raise EncoderError(f"{str(path)!r} names no pooling mode.")
    return modes


def _activation(config: Mapping[str, Any]) -> str:
    name = str(config.get("activation_function") or "")
    return "" if name.endswith("Identity") else name


def _object(path: Path) -> dict[str, Any]:
    found = _parsed(path)
    if not isinstance(found, dict):
        raise EncoderError(f"{str(path)!r} is not a JSON object.")
    return found


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as err:
        raise EncoderError(f"{str(path)!r} cannot be read: {err}.") from err
