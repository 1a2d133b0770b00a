"""Loads the tokenizer of a model, and finds the tokens that end an answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from filecmp import cmp
from pathlib import Path
from typing import Any

from worker.engine.loading.errors import UnusableFiles

logger = logging.getLogger(__name__)

# Files with a vocabulary, in the formats that transformers reads.
VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*", "merges.txt", "*.tiktoken", "tekken.json")
_JSON, _TABLES = "tokenizer.json", ("special_tokens_map.json", "added_tokens.json")
SETTINGS = ("tokenizer_config.json", "chat_template.jinja", *_TABLES)
# Fields of tokenizer_config.json. Some are written by one version of transformers and not by another.
_WITHOUT_EFFECT = frozenset(
    ("chat_template", "backend", "is_local", "local_files_only", "name_or_path", "tokenizer_class", "model_max_length")
)
# Tokens that end a turn in common chat formats, for models that do not declare them in their settings.
CHAT_END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "</s>")
NAMES = ("bos_token", "eos_token")
_SHOWN_CHARS = 300  # maximum length of the library's reason in a message


def load_tokenizer(source: str, adapter_path: Path | None = None, **options: Any) -> Any:
    """Load the adapter's own tokenizer if its folder has one, else the base model's.

    An adapter was trained with its tokenizer, chat template and end token together. Settings that are missing in its
    folder come from the base model's tokenizer.

    Args:
        source: the base model, a local folder or a hub id.
        adapter_path: folder of an adapter.
        options: options of `AutoTokenizer.from_pretrained`.

    Raises:
        UnusableFiles: the tokenizer cannot be loaded.
    """
    if adapter_path is None:
        return _load(source, options)
    if not _has_vocabulary(adapter_path):
        tokenizer = _load(source, options)
        _set_names(tokenizer, _settings(adapter_path))
        return tokenizer
    tokenizer = _load(str(adapter_path), options)
    missing_names = [name for name in NAMES if getattr(tokenizer, name) is None]
    if missing_names or tokenizer.chat_template is None:
        base = _load(source, options)
        tokenizer.chat_template = tokenizer.chat_template or base.chat_template
        _set_names(tokenizer, {name: getattr(base, name) for name in missing_names})
    return tokenizer


def differs(folder: Path, tokenizer: Any) -> bool:
    """Return whether the adapter in the folder may need another tokenizer than this one of its base model."""
    return _has_vocabulary(folder) or bool(_other_names(tokenizer, _settings(folder)))


def is_copy(folder: Path, base: Path) -> bool:
    """Return whether the tokenizer in a folder has the files of the base model's, apart from its chat template.

    False does not mean that it is another tokenizer.
    """
    files = [file for pattern in (*VOCABULARIES, *_TABLES) for file in folder.glob(pattern)]
    if not (files and (folder / _JSON).is_file() and _settings(folder)):
        return False
    is_same = all((base / file.name).is_file() and cmp(file, base / file.name, shallow=False) for file in files)
    return is_same and _meaning(_settings(folder)) == _meaning(_settings(base))


def _meaning(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that may have an effect here."""
    return {name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT}


def declared_end_ids(model: Any) -> frozenset[int]:
    """Return the tokens that end an answer according to the model's settings."""
    found: set[int] = set()
    for named in (model.generation_config.eos_token_id, model.config.eos_token_id):
        found.update(named if isinstance(named, list) else [named] if named is not None else [])
    return frozenset(found)


def end_token_ids(declared: frozenset[int], tokenizer: Any, template: str) -> frozenset[int]:
    """Return all tokens that end an answer: the declared ones, and those of the tokenizer and the chat template."""
    own = frozenset() if tokenizer.eos_token_id is None else frozenset({tokenizer.eos_token_id})
    ids_by_token = tokenizer.added_tokens_encoder
    in_template = {ids_by_token[end] for end in CHAT_END_TOKENS if end in template and end in ids_by_token}
    return declared | own | in_template


def warn_if_larger(tokenizer: Any, num_rows: int) -> None:
    """Log a warning if the tokenizer has tokens without an embedding in the model: prompts with them are refused."""
    unknown = {token: token_id for token, token_id in tokenizer.get_vocab().items() if token_id >= num_rows}
    if unknown:
        logger.warning(
            "the tokenizer has %d tokens that the model, with %d, lacks, such as %r: prompts with them are refused",
            len(unknown),
            num_rows,
            min(unknown, key=unknown.__getitem__),
        )


def _load(source: str, options: dict[str, Any]) -> Any:
    folder = Path(source)
    if folder.is_dir() and not _has_vocabulary(folder):
        raise UnusableFiles(
            f"{source!r} has no tokenizer: none of {', '.join(VOCABULARIES)} is in it. Save it there with the model: "
            "tokenizer.save_pretrained(FOLDER)."
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, **options)
    except OSError:  # not found or not reachable: the caller handles it
        raise
    except Exception as error:  # an untrusted file: the libraries can raise anything
        reason = " ".join(str(error).split())[:_SHOWN_CHARS]
        raise UnusableFiles(
            f"The tokenizer of {source!r} cannot be loaded ({type(error).__name__}: {reason}). Save it again with "
            "transformers: tokenizer.save_pretrained(FOLDER) writes a tokenizer.json."
        ) from error


def _has_vocabulary(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in VOCABULARIES)


def _settings(folder: Path) -> dict[str, Any]:
    """Read the tokenizer's settings; empty if the folder has none."""
    file = folder / "tokenizer_config.json"
    settings: Any = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return settings if isinstance(settings, dict) else {}


def _set_names(tokenizer: Any, settings: Mapping[str, Any]) -> None:
    """Set the tokenizer's start and end token to those in the settings, if it has such tokens."""
    for name, token in _other_names(tokenizer, settings).items():
        setattr(tokenizer, name, token)


def _other_names(tokenizer: Any, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the start and end token in the settings if they are others than the tokenizer's, and it has them."""
    found: dict[str, str] = {}
    for name in NAMES:
        value = settings.get(name)
        token = value.get("content") if isinstance(value, dict) else value
        if isinstance(token, str) and token != getattr(tokenizer, name):
            found[name] = token
    return {name: token for name, token in found.items() if token in tokenizer.get_vocab()}
