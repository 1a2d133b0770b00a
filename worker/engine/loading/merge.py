"""Merges an adapter into its base model and writes the result as a model folder that any server can load.

This is the way for adapters that cannot be served beside others because they replace weights of the base: trained
modules, single trained tokens, or another vocabulary. peft does the arithmetic, so all that peft can merge works.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from models.adapter.check import CONVERT_ADVICE, WEIGHTS_FILE
from models.adapter.config import CONFIG_FILE
from models.errors import AdapterError
from models.text.saved_template import read_chat_template
from worker.engine.loading.errors import UnusableFiles
from worker.engine.loading.tokenizer import declared_end_ids, end_token_ids, load_tokenizer
from worker.engine.runners.check import TOLERANCES

Progress = Callable[[str], None]

NUM_SPREAD_TOKENS, NUM_LAST_TOKENS = 24, 8  # of the text that the merged model is checked with
REPLACEMENTS = (".weight", ".base_layer.weight")  # keys of weights that replace the base's
COPIES = (".modules_to_save.", ".original_module.")  # in keys of second copies that peft saves after a resize
# What libraries raise for files that they do not support.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError)


@dataclass(frozen=True, slots=True)
class MergedModel:
    """A merged model on disk."""

    folder: Path
    num_parameters: int
    dtype: torch.dtype
    vocab_size: int  # rows of the embedding


def merge_adapter(
    source: str, adapter: Path, target: Path, *, progress: Progress, dtype: torch.dtype | None = None
) -> MergedModel:
    """Write a base model with a merged adapter: weights, tokenizer, chat template and generation config.

    The tokenizer and the template are the adapter's, where it has its own. The result is checked: it computes what peft
    computes with the adapter beside the base. `target` appears whole or not at all.

    Args:
        source: folder or hub id of the base model that the adapter was trained on.
        adapter: a PEFT folder with weights in safetensors.
        target: the new model's folder, which must not exist.
        progress: called with one line of text per step.
        dtype: number format of the result; default: that of the base. It is computed in float32.

    Raises:
        AdapterError: the adapter cannot be merged into this base, or `target` exists; the text says why.
    """
    if target.exists():
        raise AdapterError(f"{str(target)!r} exists already. Name a folder that does not exist.")
    with _as_adapter_error(source, adapter), _scratch(target) as scratch:
        merged = _merge(source, adapter, scratch / "model", progress, dtype)
        os.sync()  # a power cut must not lose the files' contents but keep the folder
        merged.folder.rename(target)
    return replace(merged, folder=target)


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Make a folder beside the target, which is removed in the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _merge(source: str, adapter: Path, folder: Path, progress: Progress, dtype: torch.dtype | None) -> MergedModel:
    shapes = _read_shapes(adapter)
    progress(f"Reading the base model {source}")
    base, base_dtype = _load_base(source)
    _resize_vocabulary(base, shapes)
    progress(f"Merging the adapter {adapter}")
    token_ids = _check_tokens(base.get_input_embeddings().num_embeddings)
    model, expected = _merged(base, adapter, token_ids)
    _check(model, token_ids, expected, TOLERANCES[torch.float32])
    dtype = dtype or base_dtype
    progress(f"Writing the model in {str(dtype).removeprefix('torch.')}")
    _save(model.to(dtype), source, adapter, folder)
    found = MergedModel(folder, model.num_parameters(), dtype, model.get_input_embeddings().num_embeddings)
    del model, base
    progress("Checking the written model")
    _check(_load(str(folder), dtype), token_ids, expected, TOLERANCES[dtype])
    return found


@contextmanager
def _as_adapter_error(source: str, adapter: Path) -> Iterator[None]:
    """Raise `AdapterError` for all errors in the files of a model or an adapter."""
    try:
        yield
    except (UnusableFiles, *UNREADABLE) as err:
        first_line = next(iter(str(err).strip().splitlines()), type(err).__name__)
        raise AdapterError(f"Adapter {str(adapter)!r} cannot be merged into {source!r}: {first_line}") from err


def _read_shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the adapter's tensors. Pickled weights are never loaded, but peft would load them."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (adapter / name).is_file():
            raise AdapterError(f"Adapter {str(adapter)!r} has no {name}. {CONVERT_ADVICE}")
    with safe_open(adapter / WEIGHTS_FILE, framework="np") as weights:
        return {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118


def _load_base(source: str) -> tuple[Any, torch.dtype]:
    """Return the base model in float32, and the number format of its files."""
    config = AutoConfig.from_pretrained(source, local_files_only=Path(source).is_dir())
    return _load(source, torch.float32), config.get_text_config().dtype or torch.float32


def _load(source: str, dtype: torch.dtype) -> Any:
    load: Any = AutoModelForCausalLM.from_pretrained
    model, report = load(
        source,
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        local_files_only=Path(source).is_dir(),
        trust_remote_code=False,
    )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{source!r} lacks {len(missing)} weights, e.g. {missing[0]}.")
    return model.eval()


def _resize_vocabulary(base: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give the base as many tokens as the embedding or output layer that the adapter has in their place."""
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    names = [name for name, module in base.named_modules() if module in ends]
    keys = [f"base_model.model.{name}{ending}" for name in names for ending in REPLACEMENTS]
    sizes = {shapes[key][0] for key in keys if key in shapes}
    if sizes and sizes != {ends[0].num_embeddings}:
        base.resize_token_embeddings(max(sizes), mean_resizing=False)


def _merged(base: Any, adapter: Path, token_ids: Tensor) -> tuple[Any, Tensor]:
    """Return the model after merging, and the logits for the tokens before."""
    from peft import PeftConfig, PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tied weights, which are handled below
        config = PeftConfig.from_pretrained(str(adapter))
        config.inference_mode = True
        adapted: Any = PeftModel(base, config)
        report = adapted.load_adapter(str(adapter), "default", torch_device="cpu")
        surplus = [key for key in report.unexpected_keys if not any(part in key for part in COPIES)]
        if lost := sorted([*report.missing_keys, *surplus]):
            raise AdapterError(
                f"Adapter {str(adapter)!r} does not fit the base model: {len(lost)} of its weights are missing or have "
                f"no place in it, e.g. {lost[0]}. Merge it into the base model that it was trained on."
            )
        expected = _logits(adapted.eval(), token_ids)
        _separate_adapted(adapted)
        model = adapted.merge_and_unload(safe_merge=True)
    is_tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    for its_config in (model.config, model.config.get_text_config()):
        its_config.tie_word_embeddings = is_tied
    return model, expected


def _separate_adapted(adapted: Any) -> None:
    """Give every layer with a product of its own its own weight: an output layer's must not change the embedding."""
    from peft.tuners.lora import LoraLayer

    for layer in [module for module in adapted.modules() if isinstance(module, LoraLayer)]:
        base: Any = layer.get_base_layer()
        others = (module for module in adapted.modules() if module is not base and module is not layer)
        if any(getattr(other, "weight", None) is base.weight for other in others):
            base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)


def _check_tokens(vocab_size: int) -> Tensor:
    """Return tokens from the whole vocabulary, and its last ones, which an adapter may have added."""
    spread = [(3 + index * 7919) % vocab_size for index in range(NUM_SPREAD_TOKENS)]
    return torch.tensor([[*spread, *range(max(vocab_size - NUM_LAST_TOKENS, 0), vocab_size)]])


def _logits(model: Any, token_ids: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(input_ids=token_ids, use_cache=False).logits
    return logits.float()


def _check(model: Any, token_ids: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise `AdapterError` if the model computes something else, also if it is not finite."""
    if not (_logits(model, token_ids) - expected).abs().max() <= tolerance * expected.abs().max():
        raise AdapterError(
            "The merged model does not compute what the base and the adapter compute together. The adapter is of a "
            "kind that cannot be merged, or its numbers do not fit the number format (then ask for float32)."
        )


def _save(model: Any, source: str, adapter: Path, folder: Path) -> None:
    tokenizer = load_tokenizer(source, adapter, local_files_only=Path(source).is_dir())
    tokenizer.chat_template = read_chat_template(adapter) or tokenizer.chat_template
    ends = sorted(end_token_ids(declared_end_ids(model), tokenizer, tokenizer.chat_template or ""))
    model.generation_config.eos_token_id = ends[0] if len(ends) == 1 else ends or None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # only the owner could read it, but a container reads it as another user
