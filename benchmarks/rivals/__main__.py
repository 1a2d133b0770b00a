"""The command line: `setup` installs the rivals, `run` measures them and this server, `plot` draws the results."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

from benchmarks.rivals import machine, results
from benchmarks.rivals.llama_cpp import LlamaCpp, LlamaServer
from benchmarks.rivals.openvino import OpenVino
from benchmarks.rivals.process import ProcessFailed
from benchmarks.rivals.results import Failure, Sample
from benchmarks.rivals.slm_server import SlmServer
from benchmarks.rivals.system import System
from benchmarks.rivals.transformers_servers import NaiveServer, TransformersServe
from benchmarks.rivals.vllm import DTYPES, VllmServer
from benchmarks.serving import WARM_UP, WORKLOADS, Workload
from common.settings import ROOT
from deploy.bootstrap import SetupError
from models.base_model import DEFAULT_BASE_MODEL, resolve_base_model

DATA = ROOT / "data"
MODELS = DATA / "models"
LLAMA_FORMATS = ("F16", "Q8_0", "Q4_0")
SYSTEMS = "server,openvino,llama-q4_0,llama-q8_0"
RESULTS = "results.json"
OTHERS = "llama-f16, vllm-fp32, vllm-bf16, transformers, naive"


def systems(options: argparse.Namespace) -> dict[str, System]:
    """Return all systems by their names in `--systems`."""
    folder = options.dir
    model = MODELS / DEFAULT_BASE_MODEL
    llama_cpp = LlamaCpp(folder / "llama-cpp")
    return {
        "server": SlmServer(folder / "server", MODELS),
        "openvino": OpenVino(folder / "openvino"),
        **{f"llama-{name.lower()}": LlamaServer(llama_cpp, name) for name in LLAMA_FORMATS},
        **{f"vllm-{name}": VllmServer(folder / "vllm", model, name) for name in DTYPES},
        "transformers": TransformersServe(folder / "transformers", model),
        "naive": NaiveServer(folder / "naive.log", model),
    }


def chosen(options: argparse.Namespace) -> dict[str, System]:
    """Return the systems in `--systems`, in that order. Raises `SystemExit` for an unknown name."""
    known = systems(options)
    names = options.systems.split(",")
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"--systems: no system is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return {name: known[name] for name in names}


def setup(options: argparse.Namespace) -> None:
    """Create the environment and the models of each chosen rival; a failed one does not stop the others."""
    model = Path(resolve_base_model(DEFAULT_BASE_MODEL, DATA, progress=print))
    for name, system in chosen(options).items():
        try:
            system.make(model)
        except (SetupError, subprocess.CalledProcessError) as error:
            print(f"{name} was not set up: {error}")


def run(options: argparse.Namespace) -> None:
    """Measure every system under every workload, in turn, round after round."""
    compared = chosen(options).values()
    workloads = [one for one in WORKLOADS if one.name in options.workloads.split(",")]
    if options.requests:
        workloads = [replace(one, requests=options.requests) for one in workloads]
    output = options.output or options.dir / RESULTS
    outcomes: list[Sample | Failure] = []
    for number in range(1, options.rounds + 1):
        for workload in workloads:
            for system in compared:
                outcomes.append(measure(system, workload, number))
                print(outcomes[-1].line(), flush=True)
                results.save(outcomes, machine.describe(), output)
    print(f"\n{machine.describe()}\n\n{results.table(outcomes, [one.title for one in compared])}")


def measure(system: System, workload: Workload, number: int) -> Sample | Failure:
    """Run a workload once; a system that crashes or refuses a request is a line of the results, not the end of them."""
    try:
        return sample(system, workload, number)
    except (ProcessFailed, RuntimeError, OSError, HTTPException) as error:
        return Failure(system.title, workload.name, number, f"{type(error).__name__}: {error}")


def sample(system: System, workload: Workload, number: int) -> Sample:
    """Start a system, warm it up, run a workload once, and stop it: only one system runs at a time."""
    busy = machine.busy_share()
    with system.running(workload) as session:
        session.run(WARM_UP, number)
        measured = session.run(workload, number)
        memory = session.process.peak_memory()
        return Sample(system.title, workload.name, number, busy, session.process.start_s, memory, measured)


def plot(options: argparse.Namespace) -> None:
    """Draw saved results."""
    from benchmarks.rivals.plot import draw

    described, outcomes = results.read(options.results or options.dir / RESULTS)
    draw([one for one in outcomes if isinstance(one, Sample)], described, options.image)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("--dir", type=Path, default=DATA / "rivals", help="folder with the rivals' installations")
    commands = parser.add_subparsers(required=True)
    installs = commands.add_parser("setup", help="install the rivals and convert the model")
    installs.set_defaults(command=setup)
    runs = commands.add_parser("run", help="measure and print a table")
    runs.set_defaults(command=run)
    for command in (installs, runs):
        command.add_argument("--systems", default=SYSTEMS, help=f"in this order (default: {SYSTEMS}; also {OTHERS})")
    runs.add_argument("--workloads", default=",".join(one.name for one in WORKLOADS))
    runs.add_argument("--rounds", type=int, default=2)
    runs.add_argument("--requests", type=int, help="requests per workload, for a quick run")
    runs.add_argument("--output", type=Path, help=f"file for all raw measurements (default: {RESULTS} in --dir)")
    plots = commands.add_parser("plot", help="draw the results of a run")
    plots.set_defaults(command=plot)
    plots.add_argument("image", type=Path, help="the file to write, such as results.svg")
    plots.add_argument("--results", type=Path, help=f"file with raw measurements (default: {RESULTS} in --dir)")
    options = parser.parse_args(argv)
    options.dir = options.dir.absolute()
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse(argv)
    options.command(options)


if __name__ == "__main__":
    main()
