"""The parameters and the result of an `embed` job."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

MAX_INPUTS = 2048  # as OpenAI's
MAX_VECTOR_BYTES = 4 * 2**20  # of all vectors of a job: Redis does nothing else while it stores them
BYTES_PER_NUMBER = 4  # float32, little-endian
KEPT_S = 60  # how long the vectors of a request that waits for them stay readable: they are large

Input = str | tuple[int, ...]  # a text, or tokens that are used unchanged


@dataclass(frozen=True, slots=True)
class EmbedParams:
    """What an `embed` job computes.

    Attributes:
        inputs: each gets a vector.
        dimensions: the length of the vectors; None: the model's.
        truncate: whether inputs with too many tokens are cut; otherwise they are an error.
        prompt_name: the name of the model's prompt that is put before each text; None: its default, if any.
    """

    inputs: tuple[Input, ...]
    dimensions: int | None = None
    truncate: bool = False
    prompt_name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> EmbedParams:
        """Parse the JSON form."""
        inputs = tuple(one if isinstance(one, str) else tuple(one) for one in wire["inputs"])
        return cls(inputs, wire["dimensions"], wire["truncate"], wire["prompt_name"])


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """The vectors of a job, one for each input in order, and the number of tokens they were computed from."""

    vectors: bytes  # all of them, number after number
    dimensions: int
    prompt_tokens: int

    def rows(self) -> Iterator[bytes]:
        """Yield the vectors."""
        size = self.dimensions * BYTES_PER_NUMBER
        return (self.vectors[at : at + size] for at in range(0, len(self.vectors), size))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        return asdict(self) | {"vectors": base64.b64encode(self.vectors).decode("ascii")}

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> EmbedResult:
        """Parse the JSON form."""
        return cls(base64.b64decode(wire["vectors"]), wire["dimensions"], wire["prompt_tokens"])
