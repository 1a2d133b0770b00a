"""Converts a GGUF file, once, to a folder that `from_pretrained` loads as the base model."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.gguf.config import POSITION_TENSORS, read_config
from models.gguf.file import GgufFile, read_gguf
from models.gguf.tokenizer import build_tokenizer
from models.installation import install_once

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

SUFFIX = ".gguf"
CONVERSION = 1  # increased when the output of `convert` changes, so that files are converted again
FLOAT32_BYTES = 4
MIB = 2**20
LONGEST_STEM = 100  # characters of a folder's name
# transformers' errors for files that it does not support.
UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError),
    *(RuntimeError, ArithmeticError, AssertionError),
)

Progress = Callable[[str], None]


def install(path: Path, models_dir: Path, *, progress: Progress) -> Path:
    """Return the folder below `models_dir` with the converted file; converts it if it is not there yet.

    Raises:
        BaseModelError: the file is damaged, is not a language model, or its architecture is not supported.
    """

    def make(scratch: Path) -> Path:
        progress(f"Converting {path.name} to safetensors (a minute or more, once)")
        convert(path, scratch / "model")
        return scratch / "model"

    return install_once(converted(path, models_dir), make, progress=progress)


def converted(path: Path, models_dir: Path) -> Path:
    """Return the folder for the converted file; a changed file gets another folder."""
    return models_dir / f"gguf-{path.stem[:LONGEST_STEM]}-{_fingerprint(path)}"


def convert(path: Path, target: Path) -> None:
    """Write the file's model as float32, which can hold every GGUF type, and its tokenizer to a new folder.

    Raises:
        BaseModelError: see `install`.
    """
    file = read_gguf(path)
    target.mkdir()
    _check_disk_space(file, target)
    tokenizer = build_tokenizer(file)
    with _explained(file):
        config = read_config(file)
        loaded = _load(file, config, target)
    _plain_model(loaded, config, _generation_config(file)).save_pretrained(target)
    tokenizer.save_pretrained(target)
    for weights in target.glob("*.safetensors"):
        weights.chmod(0o644)  # only the owner could read it, but a container reads it as another user


def _fingerprint(path: Path) -> str:
    """Return a hash of size, time and first MiB: a hash of the whole file would delay every start by seconds per GB."""
    stat = path.stat()
    seen = hashlib.sha256(f"{CONVERSION} {stat.st_size} {stat.st_mtime_ns} ".encode())
    with path.open("rb") as start:
        seen.update(start.read(MIB))
    return seen.hexdigest()[:12]


def _check_disk_space(file: GgufFile, target: Path) -> None:
    needed = FLOAT32_BYTES * sum(int(tensor.n_elements) for tensor in file.tensors.values())
    free = shutil.disk_usage(target).free
    if needed > free:
        raise file.refusal(
            f"its weights take {needed / MIB:,.0f} MiB as float32, but {target.parent.parent} has {free / MIB:,.0f} "
            "MiB free. Free some space there, or set SLM_DATA_DIR to a larger disk."
        )


@contextmanager
def _explained(file: GgufFile) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as err:
        first_line = next(iter(str(err).strip().splitlines()), "")
        raise file.refusal(
            f"transformers cannot read the architecture {file.architecture!r} from this GGUF file "
            f"({type(err).__name__}: {first_line}). Use the model's folder in safetensors format, or its hub id."
        ) from err


def _load(file: GgufFile, config: PreTrainedConfig, nothing: Path) -> PreTrainedModel:
    """Return a model with the dequantised weights, after checking that the model and the file have the same weights.

    `nothing` is an empty folder: from the file's own folder, transformers would also load adapters and settings.
    """
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    load: Any = AutoModelForCausalLM.from_pretrained
    model, report = load(
        nothing,
        config=config,
        gguf_file=str(file.path.absolute()),
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        output_loading_info=True,
    )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{len(missing)} weights of the model are missing in the file, e.g. {missing[0]}")
    _check_all_were_used(file, model)
    return model  # type: ignore[no-any-return]


def _check_all_were_used(file: GgufFile, model: PreTrainedModel) -> None:
    """Check that no tensor was dropped: transformers ignores tensors that the model does not have."""
    in_file = sum(int(tensor.n_elements) for name, tensor in file.tensors.items() if name not in POSITION_TENSORS)
    in_model = sum({weight.data_ptr(): weight.numel() for weight in model.state_dict().values()}.values())
    if in_file != in_model:
        raise ValueError(f"the file has {in_file} numbers, but the model has {in_model}")


def _plain_model(loaded: PreTrainedModel, config: PreTrainedConfig, generation: GenerationConfig) -> PreTrainedModel:
    """Move the weights to a new model: transformers refuses to save a model loaded from GGUF."""
    import torch

    with torch.device("meta"):
        model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = generation
    return model


def _generation_config(file: GgufFile) -> GenerationConfig:
    """Return the config for generation: every end-of-text, end-of-turn or end-of-message token ends a response."""
    from transformers import GenerationConfig

    named = [file.token_setting(f"{name}_token_id") for name in ("eos", "eot", "eom")]
    ends = list(dict.fromkeys(token_id for token_id in named if token_id is not None))
    return GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=file.token_setting("bos_token_id"),
        eos_token_id=ends[0] if len(ends) == 1 else ends or None,
        pad_token_id=file.token_setting("padding_token_id"),
    )
