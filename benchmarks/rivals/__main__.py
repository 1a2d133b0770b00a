"""The command line: `setup` installs the rivals, `run` measures them and this server."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.rivals import machine, results
from benchmarks.rivals.llama_cpp import LlamaCpp, LlamaServer
from benchmarks.rivals.openvino import OpenVino
from benchmarks.rivals.results import Sample
from benchmarks.rivals.slm_server import SlmServer
from benchmarks.rivals.system import System
from benchmarks.serving import WARM_UP, WORKLOADS, Workload
from common.settings import ROOT
from models.base_model import DEFAULT_BASE_MODEL, resolve_base_model

DATA = ROOT / "data"
MODELS = DATA / "models"
LLAMA_FORMATS = ("F16", "Q8_0", "Q4_0")
SYSTEMS = "server,openvino,llama-q4_0,llama-q8_0"


def rivals(options: argparse.Namespace) -> tuple[LlamaCpp, OpenVino]:
    """Return the rivals' installations in `--dir`."""
    return LlamaCpp(options.dir / "llama-cpp"), OpenVino(options.dir / "openvino")


def systems(options: argparse.Namespace) -> dict[str, System]:
    """Return all systems by their names in `--systems`."""
    llama_cpp, openvino = rivals(options)
    servers = {f"llama-{name.lower()}": LlamaServer(llama_cpp, name) for name in LLAMA_FORMATS}
    return {"server": SlmServer(options.dir / "server", MODELS), "openvino": openvino, **servers}


def setup(options: argparse.Namespace) -> None:
    """Create each rival's environment and model."""
    llama_cpp, openvino = rivals(options)
    model = Path(resolve_base_model(DEFAULT_BASE_MODEL, DATA, progress=print))
    openvino.make(model)
    llama_cpp.make(model, LLAMA_FORMATS)


def run(options: argparse.Namespace) -> None:
    """Measure every system under every workload, in turn, round after round."""
    known = systems(options)
    chosen = [known[name] for name in options.systems.split(",")]
    workloads = [one for one in WORKLOADS if one.name in options.workloads.split(",")]
    if options.requests:
        workloads = [replace(one, requests=options.requests) for one in workloads]
    output = options.output or options.dir / "results.json"
    samples: list[Sample] = []
    for number in range(1, options.rounds + 1):
        for workload in workloads:
            for system in chosen:
                samples.append(measure(system, workload, number))
                print(samples[-1].line(), flush=True)
                save(samples, output)
    print(f"\n{machine.describe()}\n\n{results.table(samples, [one.title for one in chosen])}")


def measure(system: System, workload: Workload, number: int) -> Sample:
    """Start a system, warm it up, run a workload once, and stop it: only one system runs at a time."""
    busy = machine.busy_share()
    with system.running(workload) as session:
        session.run(WARM_UP, number)
        measured = session.run(workload, number)
        memory = session.process.peak_memory()
        return Sample(system.title, workload.name, number, busy, session.process.start_s, memory, measured)


def save(samples: Sequence[Sample], file: Path) -> None:
    """Save all raw measurements."""
    content = {"machine": machine.describe(), "samples": [asdict(sample) for sample in samples]}
    file.write_text(json.dumps(content, indent=1), "utf-8")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("--dir", type=Path, default=DATA / "rivals", help="folder with the rivals' installations")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("setup", help="install the rivals and convert the model").set_defaults(command=setup)
    runs = commands.add_parser("run", help="measure and print a table")
    runs.set_defaults(command=run)
    runs.add_argument("--systems", default=SYSTEMS, help=f"in this order (default: {SYSTEMS}; also llama-f16)")
    runs.add_argument("--workloads", default=",".join(one.name for one in WORKLOADS))
    runs.add_argument("--rounds", type=int, default=2)
    runs.add_argument("--requests", type=int, help="requests per workload, for a quick run")
    runs.add_argument("--output", type=Path, help="file for all raw measurements (default: results.json in --dir)")
    options = parser.parse_args(argv)
    options.dir = options.dir.absolute()
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse(argv)
    options.command(options)


if __name__ == "__main__":
    main()
