"""The compiler checks Python's declarations of the C interface against the header."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator

import pytest

from worker.engine.checkpoints.architecture import MlpKind, NormKind
from worker.engine.native import library
from worker.engine.native.build import SOURCES
from worker.engine.native.weights import MAX_HEAD_SIZE

STRUCTS = {
    "slm_linear": library.NativeLinear,
    "slm_norm": library.NativeNorm,
    "slm_layer": library.NativeLayer,
    "slm_model": library.NativeModel,
    "slm_lora_part": library.NativeLoraPart,
    "slm_lora": library.NativeLora,
    "slm_lora_embedding": library.NativeLoraEmbedding,
    "slm_adapter": library.NativeAdapter,
    "slm_row": library.NativeRow,
}
CONSTANTS = {
    "SLM_BLOCK_TOKENS": library.BLOCK_TOKENS,
    "SLM_LORA_PANEL_ROWS": library.LORA_PANEL_ROWS,
    "SLM_MAX_LORA_PARTS": library.MAX_LORA_PARTS,
    "SLM_LORA_FP32": library.LoraFormat.FP32,
    "SLM_LORA_BF16": library.LoraFormat.BF16,
    "SLM_LORA_INT8": library.LoraFormat.INT8,
    "SLM_LORA_DOT": library.LoraFormat.DOT,
    "SLM_FP32": library.Precision.FP32,
    "SLM_INT8": library.Precision.INT8,
    "SLM_RMS_NORM": NormKind.RMS_NORM,
    "SLM_LAYER_NORM": NormKind.LAYER_NORM,
    "SLM_CACHE_AUTO": library.CacheFormat.AUTO,
    "SLM_CACHE_INT8": library.CacheFormat.INT8,
    "SLM_SWIGLU": MlpKind.SWIGLU,
    "SLM_GELU_TANH": MlpKind.GELU_TANH,
    "SLM_EMBEDDING_FP32": library.EmbeddingKind.FP32,
    "SLM_EMBEDDING_BF16": library.EmbeddingKind.BF16,
    "SLM_EMBEDDING_PANELS": library.EmbeddingKind.PANELS,
    "MAX_HEAD_SIZE": MAX_HEAD_SIZE,
}


def layout(name: str, mirror: type[ctypes.Structure]) -> Iterator[str]:
    """Return C expressions that are true if the struct has the layout of its mirror."""
    yield f"sizeof(struct {name}) == {ctypes.sizeof(mirror)}"
    for field, *_ in mirror._fields_:
        place = getattr(mirror, field)
        yield f"offsetof(struct {name}, {field}) == {place.offset}"
        yield f"sizeof(((struct {name} *)0)->{field}) == {place.size}"


def differences(expressions: Iterator[str] | list[str]) -> str:
    """Return the compiler's messages about expressions that are false."""
    asserted = "".join(f'_Static_assert({one}, "{one}");\n' for one in expressions)
    program = f'#include "slm_native.h"\n#include "attention.h"\n{asserted}'
    command = ["cc", "-std=gnu11", "-fsyntax-only", f"-I{SOURCES}", "-x", "c", "-"]
    return subprocess.run(command, input=program, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_has_the_layout_of_its_mirror(name: str) -> None:
    assert differences(layout(name, STRUCTS[name])) == ""


def test_constants_have_the_same_values() -> None:
    assert differences([f"{name} == {int(value)}" for name, value in CONSTANTS.items()]) == ""


class OtherRow(ctypes.Structure):
    """`struct slm_row` with two fields swapped."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("start", "num_tokens", "num_logits", "reserved")),
        ("block_table", ctypes.c_void_p),
    ]


def test_fields_in_another_order_are_found() -> None:
    found = differences(layout("slm_row", OtherRow))
    assert "offsetof(struct slm_row, start) == 0" in found
    assert "offsetof(struct slm_row, num_tokens) == 4" in found
