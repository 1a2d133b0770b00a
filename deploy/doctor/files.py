"""Checks the folders that the server reads and writes, with the rights of the user who asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from common.settings import ROOT, Settings
from deploy.doctor.finding import Finding, ok, problem, warning

_WRITTEN = ("adapters", "logs", "native", "redis", "training", "uploads")  # the rest may be somebody else's
_ELSEWHERE = "Set SLM_DATA_DIR to a folder that this user can write, or ask as the server's user."


def check_files(settings: Settings) -> Iterator[Finding]:
    """Check the data folder, and every model and adapter that the settings name."""
    yield _data_folder(settings.data_dir)
    for base in settings.bases:
        yield _model(base.source, settings.data_dir)
    named = {
        "SLM_EMBED_MODEL": settings.embed_folder,
        "SLM_LORA_PATH": settings.lora_path and ROOT / settings.lora_path,
        "SLM_ADAPTERS_DIR": settings.adapters_dir and ROOT / settings.adapters_dir,
    }
    for variable, folder in named.items():
        if folder is not None:
            yield _named(folder, variable)


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists and that this user can see."""
    folder = folder.absolute()
    return next(one for one in (folder, *folder.parents) if os.access(one, os.F_OK))


def _data_folder(folder: Path) -> Finding:
    try:
        folder.stat()
    except FileNotFoundError:
        return _new_data_folder(folder)
    except OSError as err:
        return problem("data folder", f"{folder} cannot be used ({err.strerror})", _ELSEWHERE)
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return problem("data folder", f"{folder} is no folder that can be written", _ELSEWHERE)
    ours = [name for name in _WRITTEN if os.access(folder / name, os.F_OK)]
    if others := [name for name in ours if not os.access(folder / name, os.W_OK)]:
        advice = f"Ask as the server's user, or give that user the files: chown -R USER {folder}"
        return problem("data folder", f"this user cannot write {', '.join(others)} in {folder}", advice)
    return ok("data folder", str(folder))


def _new_data_folder(folder: Path) -> Finding:
    above = nearest(folder)
    if os.access(above, os.W_OK | os.X_OK):
        return ok("data folder", f"{folder} (not created yet)")
    return problem("data folder", f"{folder} cannot be created: this user cannot write {above}", _ELSEWHERE)


def _model(source: str, data_dir: Path) -> Finding:
    here = [one for one in (Path(source), data_dir / "models" / source) if os.access(one, os.F_OK)]
    if here and not os.access(here[0], os.R_OK):
        return problem("model", f"this user cannot read {here[0]}", "Give the server's user the right to read it.")
    if here:
        return ok("model", source)
    if source.startswith(("/", ".", "~")):
        advice = "Correct SLM_BASE_MODEL or SLM_MODELS, or give the server's user the right to read it."
        return problem("model", f"{source} does not exist, or this user cannot see it", advice)
    return ok("model", f"{source} (not here yet; the first start fetches it)")


def _named(folder: Path, variable: str) -> Finding:
    """Only warn: in containers only the processes that read the folder have it."""
    if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir():
        return ok("folder", f"{folder} ({variable})")
    advice = f"Correct {variable}, or give the server's user the right to read it."
    return warning("folder", f"{folder} is no folder that can be read ({variable})", advice)
