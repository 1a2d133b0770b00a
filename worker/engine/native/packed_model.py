"""A packed model in memory, just packed or mapped from a file. No torch: a worker with a prepared model needs none."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from worker.engine.native.library import NativeLayer, NativeModel
from worker.engine.native.model_file import MappedModel, offsets

HEAD = "lm_head"  # an adapter's name for the head, even if the head's weight is the embedding's


@dataclass(frozen=True, slots=True)
class BaseMatrix:
    """A matrix of the base model: modules stacked by rows."""

    columns: int
    module_rows: Mapping[str, int]  # number of outputs of each module, in order


@dataclass(frozen=True, slots=True)
class BaseShapes:
    """Everything in a base model that can be adapted."""

    matrices: Sequence[BaseMatrix]  # in the order of `struct slm_adapter`
    embedding: str
    position_embedding: str | None
    hidden_size: int
    num_entries: Mapping[str, int]  # of each embedding: tokens, or positions in use


@dataclass(frozen=True, slots=True)
class Part:
    """Memory to which a model's pointers point."""

    address: int
    size: int  # bytes

    def view(self) -> memoryview:
        """Return the memory as bytes."""
        return memoryview((ctypes.c_char * self.size).from_address(self.address)).cast("B")


@dataclass(frozen=True, eq=False)
class PackedModel:
    """A model in the native layout.

    `native` is the argument for the C functions, valid until `close`; its pointers point into `parts`.
    """

    native: NativeModel
    shapes: BaseShapes  # what an adapter can adapt
    packed_bytes: int  # size of all packed matrices, which every step reads
    parts: Sequence[Part]  # the matrices first
    close: Callable[[], None]  # frees the memory; no runner may use the model afterwards

    def to_facts(self) -> dict[str, Any]:
        """Return what `restored` needs besides the parts, as JSON."""
        layers = (NativeLayer * self.native.num_layers).from_address(ctypes.addressof(self.native.layers.contents))
        return {
            "native": bytes(self.native).hex(),
            "layers": bytes(layers).hex(),
            "shapes": asdict(self.shapes),
            "packed_bytes": self.packed_bytes,
            "parts": [[part.address, part.size] for part in self.parts],
        }


def restored(mapped: MappedModel, facts: dict[str, Any]) -> PackedModel:
    """Return the model in a file; `facts` are those of `to_facts`.

    The matrices are copied: every step reads all of them, and mapped pages are small ones, with which a step of eight
    rows takes up to twice as long. The rest, with the embedding of each token, stays mapped.

    Raises:
        OSError: there is not enough memory, or the file cannot be read.
    """
    before = [Part(*part) for part in facts["parts"]]
    matrices = mapped.copy(0, before[0].size)
    places = [mapped.address + offset for offset in offsets([part.size for part in before])]
    places[0] = matrices.address
    moves = [(part, place - part.address) for part, place in zip(before, places, strict=True)]
    native = NativeModel.from_buffer_copy(bytes.fromhex(facts["native"]))
    layers = (NativeLayer * native.num_layers).from_buffer_copy(bytes.fromhex(facts["layers"]))
    for struct in (native, *layers):
        _move(struct, moves)
    native.layers = layers
    shapes = facts["shapes"]

    def close() -> None:
        matrices.close()
        mapped.close()

    return PackedModel(
        native,
        BaseShapes(**shapes | {"matrices": [BaseMatrix(**matrix) for matrix in shapes["matrices"]]}),
        facts["packed_bytes"],
        [Part(place, part.size) for part, place in zip(before, places, strict=True)],
        close,
    )


def _move(struct: ctypes.Structure, moves: list[tuple[Part, int]]) -> None:
    """Let the struct's pointers point to where the parts are now."""
    for name, kind, *_ in struct._fields_:
        value = getattr(struct, name)
        if kind is ctypes.c_void_p and value is not None:
            setattr(struct, name, _moved(value, moves))
        elif issubclass(kind, ctypes.Structure):
            _move(value, moves)


def _moved(address: int, moves: list[tuple[Part, int]]) -> int:
    return next(address + by for part, by in moves if part.address <= address < part.address + part.size)
