"""Declares the C interface of `src/slm_native.h` for ctypes. The header describes shapes and meanings."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int32, c_size_t, c_void_p
from enum import IntEnum
from pathlib import Path

from worker.engine.native.errors import BuildFailed

BLOCK_TOKENS = 64
LORA_PANEL_ROWS = 16
MAX_LORA_PARTS = 3


class Precision(IntEnum):
    """Number format of the weights and the matrix products."""

    FP32 = 0
    INT8 = 1


class CacheFormat(IntEnum):
    """Number format of cached keys and values."""

    AUTO = 0
    INT8 = 1


class EmbeddingKind(IntEnum):
    """Storage format of the token embeddings."""

    FP32 = 0
    BF16 = 1
    PANELS = 2


class LoraFormat(IntEnum):
    """Number format of an adapter's matrices."""

    FP32 = 0
    BF16 = 1
    INT8 = 2
    DOT = 3


class NativeLinear(ctypes.Structure):
    """`struct slm_linear`."""

    _fields_ = [("panels", c_void_p), ("bias", c_void_p), ("rows", c_int32), ("columns", c_int32)]


class NativeNorm(ctypes.Structure):
    """`struct slm_norm`."""

    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class NativeLayer(ctypes.Structure):
    """`struct slm_layer`."""

    _fields_ = [
        *((name, NativeNorm) for name in ("attention_norm", "mlp_norm", "query_norm", "key_norm")),
        *((name, NativeLinear) for name in ("query_key_value", "attention_output", "mlp_input", "mlp_output")),
    ]


class NativeModel(ctypes.Structure):
    """`struct slm_model`."""

    _fields_ = [
        *((name, c_int32) for name in ("num_layers", "hidden_size", "intermediate_size", "num_heads")),
        *((name, c_int32) for name in ("num_kv_heads", "head_size", "vocab_size", "context_length")),
        *((name, c_int32) for name in ("precision", "norm_kind", "mlp_kind", "embedding_kind")),
        ("norm_epsilon", c_float),
        *((name, c_void_p) for name in ("embedding", "position_embedding", "rotary_cos", "rotary_sin")),
        ("final_norm", NativeNorm),
        ("head", NativeLinear),
        ("layers", POINTER(NativeLayer)),
    ]


class NativeLoraPart(ctypes.Structure):
    """`struct slm_lora_part`."""

    _fields_ = [
        ("b", c_void_p),
        *((name, c_int32) for name in ("first_row", "num_rows", "first_rank", "rank")),
    ]


class NativeLora(ctypes.Structure):
    """`struct slm_lora`."""

    _fields_ = [
        ("a", c_void_p),
        ("num_panels", c_int32),
        ("num_parts", c_int32),
        ("parts", NativeLoraPart * MAX_LORA_PARTS),
        ("next", c_void_p),
        ("next_size", c_size_t),
    ]


class NativeLoraEmbedding(ctypes.Structure):
    """`struct slm_lora_embedding`."""

    _fields_ = [("columns", c_void_p), ("part", NativeLoraPart)]


class NativeAdapter(ctypes.Structure):
    """`struct slm_adapter`."""

    _fields_ = [
        ("format", c_int32),
        ("max_ranks", c_int32),
        ("embedding", NativeLoraEmbedding),
        ("position_embedding", NativeLoraEmbedding),
        ("matrices", POINTER(NativeLora)),
    ]


class NativeRow(ctypes.Structure):
    """`struct slm_row`."""

    _fields_ = [
        *((name, c_int32) for name in ("num_tokens", "start", "num_logits", "reserved")),
        ("block_table", c_void_p),
        ("adapter", c_void_p),
    ]


_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "slm_available_kernels": (c_char_p, [c_int32]),
    "slm_packed_size": (c_size_t, [c_char_p, c_int32, c_int32, c_int32]),
    "slm_pack_rows": (c_int32, [c_char_p, c_int32, c_void_p, c_void_p, c_int32, c_int32, c_int32]),
    "slm_block_size": (c_size_t, [POINTER(NativeModel), c_char_p, c_int32]),
    "slm_create": (c_void_p, [POINTER(NativeModel), c_char_p, c_int32, c_void_p, c_int32, c_int32, c_int32]),
    "slm_reserve_ranks": (c_int32, [c_void_p, c_int32]),
    "slm_forward": (None, [c_void_p, POINTER(NativeRow), c_int32, c_void_p, c_void_p]),
    "slm_linear_forward": (None, [c_void_p, POINTER(NativeLinear), c_void_p, c_int32, c_void_p]),
    "slm_destroy": (None, [c_void_p]),
}


def load_library(path: Path) -> ctypes.CDLL:
    """Load the library and declare its functions. Calls release the GIL.

    Raises:
        BuildFailed: the file is not a library for this machine, or not this library.
    """
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as err:
        raise BuildFailed(f"The native library cannot be loaded: {err}.") from err
    return library


def available_kernels(library: ctypes.CDLL) -> list[str]:
    """Return the names of the kernel sets that this CPU can run, best first."""
    names: list[str] = []
    while (name := library.slm_available_kernels(len(names))) is not None:
        names.append(name.decode())
    return names
