"""`slm merge`: an adapter and its base as one model folder. Works on this machine, without a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slm.failures import CommandError, shown
from slm.model_tools import GgufFormat, model_tools
from slm.options import Json
from slm.output import Output

if TYPE_CHECKING:
    from worker.engine.loading.merge import MergedModel

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


Gguf = Annotated[
    list[GgufFormat] | None,
    typer.Option(help="Also write OUT-F16.gguf or OUT-Q8_0.gguf beside OUT; can be given twice.", show_default=False),
]


@merge.command("merge")
def _merge(
    *, base: Base, adapter: Adapter, out: Out, dtype: Dtype = None, gguf: Gguf = None, as_json: Json = False
) -> None:
    """Write a base model with a merged adapter as a model folder, which any server can have as its base."""
    output = Output(as_json=as_json)
    files = {kind: out.with_name(f"{out.name}-{kind}.gguf") for kind in gguf or ()}
    with shown(output):
        if there := [file for file in files.values() if file.exists()]:
            raise CommandError(f"{str(there[0])!r} exists already. Delete it, or name another folder.")
        with model_tools(output) as progress:
            merged = _run(base, adapter, out, dtype, files, progress)
        count, written = merged.num_parameters, str(merged.dtype).removeprefix("torch.")
        found = {"folder": str(merged.folder), "parameters": count, "dtype": written}
        found |= {"gguf": {kind.value: str(file) for kind, file in files.items()}} if files else {}
        lines = [f"{merged.folder}: {count / 1e6:.1f} million parameters in {written}"]
        output.result(found, "\n".join([*lines, *map(str, files.values())]))


def _run(
    base: str,
    adapter: Path,
    out: Path,
    dtype: NumberFormat | None,
    files: Mapping[GgufFormat, Path],
    progress: Callable[[str], None],
) -> MergedModel:
    import torch

    from common.settings import Settings
    from models.base_model import resolve_base_model
    from models.gguf.writer import GgufType, write_gguf
    from worker.engine.loading.merge import merge_adapter

    source = resolve_base_model(base, Settings.from_env().data_dir, progress=progress)
    wanted = None if dtype is None else getattr(torch, dtype)
    merged = merge_adapter(source, adapter, out, progress=progress, dtype=wanted)
    for kind, file in files.items():
        write_gguf(out, file, GgufType(kind), progress=progress)
    return merged
