"""Resolves the name of a base model to an argument for `from_pretrained`.

python -m models.base_model [--base-model NAME] [--data-dir DIR]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from models import default_model
from models.errors import BaseModelError
from models.gguf import model as gguf_model

__all__ = [
    "DEFAULT_BASE_MODEL",
    "BaseModelError",
    "main",
    "model_folder",
    "model_name",
    "needs_conversion",
    "resolve_base_model",
]

DEFAULT_BASE_MODEL = default_model.NAME


def resolve_base_model(name: str, data_dir: Path, *, progress: Callable[[str], None]) -> str:
    """Return the folder or hub id to pass to `from_pretrained` for `name`.

    The default model is downloaded and converted to `<data_dir>/models/<name>` if it is not there yet; a GGUF file is
    converted to a folder next to it. This takes a minute, once. A folder or a hub id is returned unchanged.

    Args:
        name: `DEFAULT_BASE_MODEL`, a local folder with a `config.json`, a GGUF file, or a hub id such as `gpt2`.
        data_dir: folder for converted models.
        progress: called with one line of text per step of a download or conversion.

    Raises:
        BaseModelError: the model is not available; the text names it and says what to do.
    """
    if name == DEFAULT_BASE_MODEL:
        return str(default_model.install(data_dir / "models", progress=progress))
    if Path(name).is_dir():
        return _checked_folder(name)
    if Path(name).is_file() or Path(name).suffix == gguf_model.SUFFIX:
        return str(gguf_model.install(_checked_file(name), data_dir / "models", progress=progress))
    if _looks_like_path(name):
        raise BaseModelError(f"Base model {name!r}: the folder does not exist.")
    return _checked_hub_id(name, progress)


def needs_conversion(name: str, data_dir: Path) -> bool:
    """Whether `resolve_base_model` would have to download or convert the model, which needs torch."""
    models = data_dir / "models"
    if name == DEFAULT_BASE_MODEL:
        return not (models / name).is_dir()
    is_gguf = Path(name).suffix == gguf_model.SUFFIX and Path(name).is_file()
    return is_gguf and not gguf_model.converted(Path(name), models).is_dir()


def model_name(name: str) -> str:
    """Return the name that adapters record for the base model `name`; for a GGUF file, the file name without suffix."""
    return Path(name).stem if Path(name).suffix == gguf_model.SUFFIX else name


def model_folder(source: str) -> Path:
    """Return the folder of the model's files; for a hub id, in the hub's cache.

    Raises:
        OSError: it is not there yet.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(source, "config.json")
    if not isinstance(config, str):
        raise FileNotFoundError(f"{source} is not in the hub's cache")
    return Path(config).parent


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or Path(name).is_absolute()


def _checked_file(name: str) -> Path:
    if not Path(name).is_file():
        raise BaseModelError(f"Base model {name!r}: the file does not exist.")
    if Path(name).suffix != gguf_model.SUFFIX:
        raise BaseModelError(
            f"Base model {name!r}: a model file must have a name that ends in {gguf_model.SUFFIX}. "
            "Name such a file, or the folder that save_pretrained wrote."
        )
    return Path(name)


def _checked_folder(name: str) -> str:
    if (Path(name) / "config.json").is_file():
        return name
    inside = next(Path(name).glob(f"*{gguf_model.SUFFIX}"), None)
    advice = f"Name its file {inside.name} instead." if inside else "Name the folder that save_pretrained wrote."
    raise BaseModelError(f"Base model {name!r}: the folder has no config.json, so it is not a model. {advice}")


def _checked_hub_id(name: str, progress: Callable[[str], None]) -> str:
    """Get the model's config into the hub's cache, so that a wrong name fails here with a clear error."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return name
        progress(f"Looking for {name} on the model hub")
        hf_hub_download(name, "config.json")
    except HFValidationError as err:
        raise BaseModelError(f"Base model {name!r} is neither a local folder nor a valid hub id.") from err
    except (OSError, RuntimeError, ValueError) as err:
        raise BaseModelError(
            f"Base model {name!r} is not a local folder and cannot be downloaded from the model hub "
            f"({_first_line(err)}). Check the name and the network, name a local folder, or use the built-in default "
            f"{DEFAULT_BASE_MODEL}."
        ) from err
    return name


def _first_line(err: BaseException) -> str:
    return f"{type(err).__name__}: {next(iter(str(err).strip().splitlines()), '')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.base_model", description="Download or convert the base model."
    )
    parser.add_argument(
        "--base-model",
        help="built-in default, local folder, GGUF file or hub id (default: all in SLM_MODELS, else SLM_BASE_MODEL)",
    )
    parser.add_argument("--data-dir", type=Path, help="folder with models/ (default: SLM_DATA_DIR or data/)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the base models and print where they are. Returns the exit status."""
    args = _parser().parse_args(argv)
    wanted, data_dir = [args.base_model], args.data_dir
    if args.base_model is None or data_dir is None:
        from common.settings import Settings

        settings = Settings.from_env()
        wanted = [args.base_model] if args.base_model else [base.source for base in settings.bases]
        data_dir = data_dir or settings.data_dir
    try:
        for name in wanted:
            source = resolve_base_model(name, data_dir, progress=lambda line: print(line, flush=True))
            print(f"Base model {name}: {source}")
    except BaseModelError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
