"""`slm merge`: an adapter and its base as one model folder. Works on this machine, without a server."""

from __future__ import annotations

import importlib.util
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slm.failures import CommandError, shown
from slm.options import Json
from slm.output import Output

if TYPE_CHECKING:
    from worker.engine.loading.merge import MergedModel

_NEEDED = ("peft", "safetensors", "torch", "transformers")

merge = typer.Typer()

Base = Annotated[
    str, typer.Argument(metavar="BASE", help="The base model of the adapter: a folder, a GGUF file or a hub id.")
]
Adapter = Annotated[Path, typer.Argument(metavar="ADAPTER", help="A PEFT folder.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must not exist.")]


class NumberFormat(StrEnum):
    """The number formats of a written model, by torch's names."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


Dtype = Annotated[NumberFormat | None, typer.Option(help="Number format of the result; default: that of the base.")]


@merge.command("merge")
def _merge(*, base: Base, adapter: Adapter, out: Out, dtype: Dtype = None, as_json: Json = False) -> None:
    """Write a base model with a merged adapter as a model folder, which any server can have as its base."""
    output = Output(as_json=as_json)
    with shown(output):
        if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
            raise CommandError(
                f"merging needs {' and '.join(missing)}, which this Python does not have: "
                "pip install -e '.[worker]', or run 'python -m slm' where the server is installed"
            )
        merged = _run(base, adapter, out, dtype, output)
        count, written = merged.num_parameters, str(merged.dtype).removeprefix("torch.")
        text = f"{merged.folder}: {count / 1e6:.1f} million parameters in {written}"
        output.result({"folder": str(merged.folder), "parameters": count, "dtype": written}, text)


def _run(base: str, adapter: Path, out: Path, dtype: NumberFormat | None, output: Output) -> MergedModel:
    """Load the libraries and merge; each step is a line on the standard error."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with output.live_line("Loading the libraries") as live:
        import torch

        from common.settings import Settings, SettingsError
        from models.base_model import resolve_base_model
        from models.errors import FineTuningError
        from worker.engine.loading.merge import merge_adapter

        def progress(line: str) -> None:
            live.show(line) if live.is_shown else output.step(line)

        try:
            source = resolve_base_model(base, Settings.from_env().data_dir, progress=progress)
            wanted = None if dtype is None else getattr(torch, dtype)
            return merge_adapter(source, adapter, out, progress=progress, dtype=wanted)
        except (FineTuningError, SettingsError) as err:
            raise CommandError(str(err)) from err
