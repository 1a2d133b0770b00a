"""Checks the machine: memory, disk, limits, processor, compiler and GPU."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from deploy.doctor.finding import Finding, ok, warning
from deploy.doctor.finding import problem as problem_found

GIB = 2**30
MEMORY = 2 * GIB  # Redis, the API and a worker with the default model in int8
DISK = 2 * GIB  # the environment and the default model
FILES = 4096  # an open stream needs one
_NVIDIA_SMI_S = 10

X86, ARM = "x86_64", "aarch64"
KERNELS = {  # of each architecture, best first, by the flags of the CPU that they need
    X86: (
        ("AVX-512 VNNI", {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx2", "fma", "f16c"}),
        ("AVX2", {"avx2", "fma", "f16c"}),
    ),
    ARM: (
        ("8-bit matrix products", {"i8mm", "asimddp"}),
        ("8-bit dot products", {"asimddp"}),
    ),
}
_BETTER_CPU = {X86: "AVX2 (2013 and later)", ARM: "8-bit dot products (most since 2018)"}


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks look at.

    Attributes:
        memory: bytes that this machine or its container has.
        free_disk: bytes free in the data folder.
        open_files: that a process may have: the hard limit, to which the API and Redis raise their own.
        cores: that this process may use.
        architecture: as `platform.machine` says, in lower case.
        cpu_flags: as Linux names them; empty on other systems.
        compiler: path of the C compiler; None if there is none.
        gpus: the names of NVIDIA GPUs.
        torch_cuda: the CUDA version that torch was built for; None for a CPU build, '' if torch is not installed.
    """

    memory: int
    free_disk: int
    open_files: int
    cores: int
    architecture: str
    cpu_flags: Collection[str]
    compiler: str | None
    gpus: tuple[str, ...]
    torch_cuda: str | None

    @classmethod
    def here(cls, folder: Path) -> Machine:
        """Look at this machine, and the disk with a folder that exists."""
        return cls(
            memory=_memory(),
            free_disk=shutil.disk_usage(folder).free,
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            cores=_cores(),
            architecture=platform.machine().lower(),
            cpu_flags=_cpu_flags(),
            compiler=shutil.which(os.environ.get("CC") or "cc"),
            gpus=_gpus(),
            torch_cuda=_torch_cuda(),
        )


def check_machine(machine: Machine, *, device: str) -> Iterator[Finding]:
    """Check the machine for a server with the setting `device`."""
    yield _memory_finding(machine.memory)
    yield _disk_finding(machine.free_disk)
    yield _files_finding(machine.open_files)
    yield ok("cores", f"{machine.cores}")
    if device in ("auto", "cuda"):
        yield from _gpu_findings(machine, is_needed=device == "cuda")
    if device == "cpu" or (device == "auto" and not machine.gpus):
        yield from _cpu_findings(machine)


def _memory_finding(memory: int) -> Finding:
    found = f"{memory / GIB:.1f} GiB"
    if memory < MEMORY:
        return warning("memory", found, f"The default model needs about {MEMORY / GIB:.0f} GiB in all processes.")
    return ok("memory", found)


def _disk_finding(free: int) -> Finding:
    found = f"{free / GIB:.1f} GiB free in the data folder"
    if free < DISK:
        return warning("disk", found, "Free some space, or set SLM_DATA_DIR to a folder on another disk.")
    return ok("disk", found)


def _files_finding(limit: int) -> Finding:
    if 0 <= limit < FILES:  # negative: no limit
        advice = f"Each open stream needs one: 'ulimit -Hn {FILES}' or more as root, or a unit's LimitNOFILE=."
        return warning("open files", f"at most {limit} per process", advice)
    return ok("open files", "no limit" if limit < 0 else f"at most {limit} per process")


def _cpu_findings(machine: Machine) -> Iterator[Finding]:
    if machine.compiler is None:
        advice = "Without one the model runs several times slower. Install one, such as Debian's package gcc."
        yield warning("C compiler", "there is none", advice)
    else:
        yield ok("C compiler", machine.compiler)
    yield _processor_finding({"amd64": X86}.get(machine.architecture, machine.architecture), set(machine.cpu_flags))


def _processor_finding(architecture: str, flags: set[str]) -> Finding:
    if architecture not in KERNELS or not flags:
        return ok("processor", architecture)
    name = next((name for name, needed in KERNELS[architecture] if needed <= flags), None)
    if name is not None:
        return ok("processor", f"int8 with {name}")
    advice = f"int8 runs with portable code here. A CPU with {_BETTER_CPU[architecture]} is much faster."
    return warning("processor", f"has no {KERNELS[architecture][-1][0]}", advice)


def _gpu_findings(machine: Machine, *, is_needed: bool) -> Iterator[Finding]:
    if not machine.gpus and is_needed:
        yield problem_found("GPU", "there is none", "Set SLM_DEVICE to auto, or install NVIDIA's driver (nvidia-smi).")
    elif not machine.gpus:
        yield ok("GPU", "there is none; the CPU is used")
    elif machine.torch_cuda is None:
        advice = "torch was built for CPUs only. Install a build for CUDA: https://pytorch.org/get-started/locally"
        report = problem_found if is_needed else warning
        yield report("GPU", ", ".join(machine.gpus), advice)
    else:
        yield ok("GPU", ", ".join(machine.gpus))


def _memory() -> int:
    """Return the memory of the machine, or the limit of the container (cgroup v2), in bytes."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    return min(machine, int(limit)) if limit.isdigit() else machine


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_flags() -> frozenset[str]:
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def _gpus() -> tuple[str, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


def _torch_cuda() -> str | None:
    """Read it from torch's file: importing torch takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    found = re.search(r"^cuda[^=]*= '([^']+)'", _read(Path(spec.origin).with_name("version.py")), re.MULTILINE)
    return found[1] if found else None


def _read(path: str | Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return Path(path).read_text("utf-8", errors="replace")
    except OSError:
        return ""
