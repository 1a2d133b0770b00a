"""What the doctor says of a machine that it is told about."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.doctor.finding import Finding, Level
from deploy.doctor.machine import ARM, GIB, KERNELS, X86, Machine, check_machine
from worker.engine.native.kernel_sets import KernelSet, kernel_sets_of

GOOD = Machine(
    memory=8 * GIB,
    free_disk=50 * GIB,
    open_files=65_536,
    cores=4,
    architecture="x86_64",
    cpu_flags=KERNELS[X86][0][1] | {"sse"},
    compiler="/usr/bin/cc",
    gpus=(),
    torch_cuda=None,
)


def findings(machine: Machine, device: str = "auto") -> dict[str, Finding]:
    return {one.check: one for one in check_machine(machine, device=device)}


def bad(machine: Machine, device: str = "auto") -> dict[str, Level]:
    return {one.check: one.level for one in findings(machine, device).values() if one.level is not Level.OK}


def test_nothing_is_to_be_changed_on_a_good_machine() -> None:
    assert not bad(GOOD)
    assert not any(one.advice for one in findings(GOOD).values())
    assert findings(GOOD)["processor"].found == "int8 with AVX-512 VNNI"


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"memory": GIB}, "memory"),
        ({"free_disk": GIB}, "disk"),
        ({"open_files": 1024}, "open files"),
        ({"compiler": None}, "C compiler"),
        ({"cpu_flags": {"sse"}}, "processor"),
        ({"gpus": ("NVIDIA L4, 23034 MiB",)}, "GPU"),
    ],
    ids=["memory", "disk", "files", "compiler", "processor", "gpu"],
)
def test_what_is_missing_is_named_with_advice(change: dict[str, object], check: str) -> None:
    machine = replace(GOOD, **change)  # type: ignore[arg-type]
    assert bad(machine) == {check: Level.WARNING}
    assert findings(machine)[check].advice


def test_a_gpu_that_was_asked_for_must_be_there() -> None:
    assert bad(GOOD, "cuda") == {"GPU": Level.PROBLEM}
    there = replace(GOOD, gpus=("NVIDIA L4, 23034 MiB",), compiler=None)
    assert bad(there, "cuda") == {"GPU": Level.PROBLEM}, "torch was built for CPUs"
    assert not bad(replace(there, torch_cuda="12.8"), "cuda")


def test_the_limit_of_open_files_that_counts_is_the_one_that_cannot_be_raised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 524_288))
    assert Machine.here(tmp_path).open_files == 524_288


def test_no_limit_of_open_files_is_good() -> None:
    assert findings(replace(GOOD, open_files=-1))["open files"] == Finding("open files", Level.OK, "no limit")


def test_a_processor_without_known_flags_is_only_named() -> None:
    assert findings(replace(GOOD, architecture="aarch64", cpu_flags=()))["processor"].found == "aarch64"


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ({"asimd", "asimddp", "i8mm"}, "int8 with 8-bit matrix products"),
        ({"asimd", "asimddp"}, "int8 with 8-bit dot products"),
        ({"asimd"}, "has no 8-bit dot products"),
    ],
    ids=["i8mm", "dotprod", "portable"],
)
def test_the_kernels_of_an_arm_processor_are_named(flags: set[str], found: str) -> None:
    assert findings(replace(GOOD, architecture="aarch64", cpu_flags=flags))["processor"].found == found


def compiled_for(kernels: KernelSet) -> set[str]:
    """The features that a kernel set is compiled for, under Linux's names."""
    march = [option.split("+")[1:] for option in kernels.flags if option.startswith("-march=")]
    options = [option.removeprefix("-m") for option in kernels.flags if option.startswith("-m") and "=" not in option]
    linux = {"avx512vnni": "avx512_vnni", "dotprod": "asimddp"}
    return {linux.get(name, name) for name in [*options, *(one for names in march for one in names)]}


@pytest.mark.parametrize("architecture", [X86, ARM])
def test_the_flags_are_those_that_the_kernels_are_compiled_for(architecture: str) -> None:
    compiled = [compiled_for(one) for one in kernel_sets_of(architecture) if one.architecture == architecture]
    assert [needed for _, needed in KERNELS[architecture]] == compiled


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    machine = Machine.here(tmp_path)
    assert machine.memory > 0
    assert machine.cores > 0
    assert machine.free_disk >= 0
