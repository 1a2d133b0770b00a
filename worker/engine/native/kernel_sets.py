"""The kernel sets: which architecture and compiler options each needs, and how much work it likes at once.

`src/cpu.c` knows which of them the CPU can run, and tests compare its names with these.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from worker.engine.native.library import LoraFormat

X86, ARM = "x86_64", "aarch64"
_OTHER_NAMES = {"amd64": X86, "arm64": ARM}


@dataclass(frozen=True, slots=True)
class KernelSet:
    """One set of kernels, compiled from `src/kernels_<name>.c`.

    Attributes:
        architecture: that it is compiled for; None: all.
        flags: options of gcc and clang.
        mixed_chunk: prompt tokens added to decoding rows that cost little more than a single row, which must read all
            weights anyway.
        short_prompt: prompt tokens that take about 15 ms. Guessed for ARM, where no speed has been measured.
        int8_lora: number format of the adapters of int8 models. Without vector instructions for it, widening bytes to
            floats takes longer than reading twice as many; with dot products of bytes, nothing is widened.
    """

    name: str
    architecture: str | None
    flags: tuple[str, ...]
    mixed_chunk: int
    short_prompt: int
    int8_lora: LoraFormat = LoraFormat.INT8


_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512VNNI = (
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", *_AVX2),
    "-mprefer-vector-width=512",
)
# gcc must unroll more and not move loads far ahead, or the sums of a tile do not fit in the registers. Clang need not.
_NEON = ("--param=max-completely-peeled-insns=1000", "-fno-schedule-insns")

KERNEL_SETS = {
    one.name: one
    for one in (
        KernelSet("avx512vnni", X86, _AVX512VNNI, mixed_chunk=6, short_prompt=64, int8_lora=LoraFormat.DOT),
        KernelSet("avx2", X86, _AVX2, mixed_chunk=8, short_prompt=16),
        KernelSet("i8mm", ARM, ("-march=armv8.2-a+dotprod+i8mm", *_NEON), mixed_chunk=8, short_prompt=32),
        KernelSet("dotprod", ARM, ("-march=armv8.2-a+dotprod", *_NEON), mixed_chunk=8, short_prompt=16),
        KernelSet("portable", None, (), mixed_chunk=8, short_prompt=8, int8_lora=LoraFormat.BF16),
    )
}


def this_architecture() -> str:
    """Return the name of the architecture that this process runs on."""
    machine = platform.machine().lower()
    return _OTHER_NAMES.get(machine, machine)


def kernel_sets_of(architecture: str) -> list[KernelSet]:
    """Return the sets that are compiled for an architecture, the best first."""
    return [one for one in KERNEL_SETS.values() if one.architecture in (None, architecture)]
