"""How one generation picks its tokens. Set by the API from the validated request, read by the worker's engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling of one sequence. Ranges are checked where the request enters (`api/schemas.py`).

    `seed` is always set: the API draws one where the client gave none, so that every attempt of a job draws the same
    tokens. `top_k` 0 and `top_p` 1.0 mean "off".
    """

    seed: int
    max_new_tokens: int = 100
    temperature: float = 0.7
    do_sample: bool = True
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return not self.do_sample or self.temperature == 0.0

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` reads it back."""
        return asdict(self) | {"stop": list(self.stop)}

    @classmethod
    def from_dict(cls, wire: dict[str, Any]) -> SamplingParams:
        """Raises `TypeError` for an unknown name."""
        return cls(**(wire | {"stop": tuple(wire.get("stop", ()))}))
