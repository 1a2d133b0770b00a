"""`slm export`: a model, also with an adapter, as one GGUF file. Works on this machine, without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from slm.commands.merge import Base
from slm.failures import CommandError, shown
from slm.model_tools import GgufFormat, model_tools
from slm.options import Json
from slm.output import Output

export = typer.Typer()

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The GGUF file to write; it must not exist.")]
AdapterOption = Annotated[
    Path | None, typer.Option("--adapter", metavar="ADAPTER", help="A PEFT folder, which is merged into the base.")
]
Format = Annotated[GgufFormat, typer.Option("--type", help="Number format of the matrices.")]


@export.command("export")
def _export(
    *,
    base: Base,
    out: Out,
    adapter: AdapterOption = None,
    kind: Format = GgufFormat.F16,
    as_json: Json = False,
) -> None:
    """Write a model as a GGUF file, which llama.cpp and this server read."""
    output = Output(as_json=as_json)
    with shown(output):
        if out.exists():
            raise CommandError(f"{str(out)!r} exists already. Name a file that does not exist.")
        with model_tools(output) as progress:
            _write(base, adapter, out, kind, progress)
        size = out.stat().st_size
        text = f"{out}: {size / 1e6:.1f} MB in {kind}"
        output.result({"file": str(out), "type": kind, "bytes": size}, text)


def _write(base: str, adapter: Path | None, out: Path, kind: GgufFormat, progress: Callable[[str], None]) -> None:
    from common.settings import Settings
    from models.base_model import model_folder, resolve_base_model
    from models.gguf.writer import GgufType, write_gguf
    from worker.engine.loading.merge import merge_adapter

    source = resolve_base_model(base, Settings.from_env().data_dir, progress=progress)
    if adapter is None:
        write_gguf(model_folder(source), out, GgufType(kind), progress=progress)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.merged.") as scratch:
        merged = merge_adapter(source, adapter, Path(scratch) / "model", progress=progress)
        write_gguf(merged.folder, out, GgufType(kind), progress=progress)
