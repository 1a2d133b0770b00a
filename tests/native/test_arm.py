"""The kernels for ARM, compiled by a cross compiler and run by an emulator of several ARM CPUs.

The emulator shows that they are right and what each CPU gets, but no speeds.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.missing import need_program, skip_or_fail
from worker.engine.native.build import SOURCES, build_library
from worker.engine.native.errors import BuildFailed
from worker.engine.native.kernel_sets import ARM, kernel_sets_of
from worker.engine.native.library import CacheFormat, Precision

COMPILER, EMULATOR, DISASSEMBLER = "aarch64-linux-gnu-gcc", "qemu-aarch64", "aarch64-linux-gnu-objdump"
SYSTEM = "/usr/aarch64-linux-gnu"  # the C library that programs of the cross compiler need
SOURCE = Path(__file__).parent / "kernel_outputs.c"
CPUS = {"i8mm": "max", "dotprod": "cortex-a76", "portable": "cortex-a72"}  # the simplest CPU that has the kernels
TIMEOUT_S = 240
FORMATS = {  # of weights and cache
    "fp32": (Precision.FP32, CacheFormat.AUTO),
    "int8": (Precision.INT8, CacheFormat.AUTO),
    "int8 cache": (Precision.INT8, CacheFormat.INT8),
}

Format = tuple[Precision, CacheFormat]
Results = dict[str, dict[int, np.ndarray]]


def program_with(library: Path, compiler: str, folder: Path) -> Path:
    """Compile the program that prints results, for this library."""
    program = folder / "outputs"
    flags = [
        "-std=gnu11",
        "-O1",
        "-Wall",
        "-Werror",
        "-ffp-contract=off",
        f"-I{SOURCES}",
        f"-Wl,-rpath,{library.parent}",
    ]
    subprocess.run([compiler, *flags, SOURCE, library, "-o", program], check=True, timeout=TIMEOUT_S)
    return program


def run(command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr.decode()}"
    return done.stdout


def arguments(numbers: Format) -> list[str]:
    """The program's arguments for a format."""
    return [str(int(one)) for one in numbers]


def parse(output: bytes) -> Results:
    """Read what the program printed: of each name the results by their number."""
    results: Results = {}
    while output:
        header, _, output = output.partition(b"\n")
        name, number, count = header.decode().split()
        size = 4 * int(count)
        results.setdefault(name, {})[int(number)] = np.frombuffer(output[:size], "<f4")
        output = output[size:]
    return results


@pytest.fixture(scope="module")
def arm_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for program in (COMPILER, EMULATOR, DISASSEMBLER):
        need_program(program)
    try:
        return build_library(tmp_path_factory.mktemp("arm"), COMPILER, ARM)
    except BuildFailed as failure:
        if Path(SYSTEM, "include", "string.h").exists():
            raise
        skip_or_fail(f"the cross compiler has no C library ({SYSTEM}): {failure}")


@pytest.fixture(scope="module")
def emulate(arm_library: Path) -> Callable[..., bytes]:
    """Runs the program on the named CPU."""
    program = program_with(arm_library, COMPILER, arm_library.parent)

    def run_on(cpu: str, *arguments: str) -> bytes:
        return run([EMULATOR, "-cpu", cpu, "-L", SYSTEM, str(program), *arguments])

    return run_on


@pytest.fixture(scope="module")
def arm(emulate: Callable[..., bytes]) -> Callable[[str, Format], Results]:
    """The results of a kernel set for ARM, on the simplest CPU that has it."""
    return cache(lambda kernels, numbers: parse(emulate(CPUS[kernels], kernels, *arguments(numbers))))


@pytest.fixture(scope="module")
def portable_here(build_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Format], Results]:
    """The results of the portable kernels on this machine."""
    program = program_with(build_library(build_dir), "cc", tmp_path_factory.mktemp("here"))
    return cache(lambda numbers: parse(run([str(program), "portable", *arguments(numbers)])))


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def test_each_cpu_runs_the_kernels_that_it_has(emulate):
    names = [one.name for one in kernel_sets_of(ARM)]
    for position, name in enumerate(names):
        assert emulate(CPUS[name]).decode().split() == names[position:]


def test_the_products_use_the_instructions_of_their_sets_and_portable_code_none_of_these(arm_library):
    code = run([DISASSEMBLER, "-d", "--no-show-raw-insn", str(arm_library)]).decode()
    functions = [part for part in code.split("\n\n") if "<int8_multiply>:" in part]
    used = [set(re.findall(r"\t(sdot|smmla)\t", part)) for part in functions]
    assert sorted(used, key=str) == sorted([{"sdot"}, {"smmla"}, set()], key=str)


@pytest.mark.parametrize("kernels", CPUS)
def test_int8_products_have_the_same_bits_as_the_portable_ones_here(kernels, arm, portable_here):
    expected = portable_here(FORMATS["int8"])["linear"]
    for number, result in arm(kernels, FORMATS["int8"])["linear"].items():
        assert np.array_equal(result, expected[number]), f"{number} rows"


@pytest.mark.parametrize(
    ("numbers", "kernels"),  # without a cache in int8, int8 portable has a cache of other floats
    [
        ("int8", "dotprod"),
        ("int8 cache", "dotprod"),
        ("int8 cache", "portable"),
        ("fp32", "dotprod"),
        ("fp32", "portable"),
    ],
    ids=["int8 dotprod", "int8 cache dotprod", "int8 cache portable", "fp32 dotprod", "fp32 portable"],
)
def test_the_sets_for_arm_compute_the_same_bits(numbers, kernels, arm):
    expected, found = arm("i8mm", FORMATS[numbers]), arm(kernels, FORMATS[numbers])
    for name, results in expected.items():
        for number, result in results.items():
            assert np.array_equal(result, found[name][number]), f"{name} {number}"


@pytest.mark.parametrize("kernels", CPUS)
@pytest.mark.parametrize("numbers", FORMATS.values(), ids=FORMATS)
def test_batch_chunks_and_threads_do_not_change_a_bit(kernels, numbers, arm):
    results = arm(kernels, numbers)
    for name in ("logits", "fp32_adapter", "bf16_adapter", "int8_adapter"):
        for one, other in pairwise(results[name].values()):
            assert np.array_equal(one, other), name
    all_rows = max(results["linear"].values(), key=len)
    for number, some_rows in results["linear"].items():
        assert np.array_equal(some_rows, all_rows[: len(some_rows)]), f"{number} rows"


@pytest.mark.parametrize("kernels", CPUS)
@pytest.mark.parametrize(("numbers", "bound"), [("fp32", 1e-5), ("int8", 5e-3), ("int8 cache", 5e-3)], ids=FORMATS)
def test_results_agree_with_the_portable_kernels_here(kernels, numbers, bound, arm, portable_here):
    expected = portable_here(FORMATS[numbers])
    for name, results in arm(kernels, FORMATS[numbers]).items():
        for number, result in results.items():
            assert relative_error(result, expected[name][number]) < bound, f"{name} {number}"


def test_adapters_change_the_logits(portable_here):
    results = portable_here(FORMATS["fp32"])
    for name in ("fp32_adapter", "bf16_adapter", "int8_adapter"):
        assert relative_error(results[name][0], results["logits"][10]) > 0.05, name
