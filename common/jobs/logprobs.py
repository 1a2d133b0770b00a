"""The log probabilities of an answer's tokens, and their wire form.

Log probabilities are natural logarithms of the model's own distribution, before penalties, bias, temperature and
filters. Tokens are given as bytes, because a token can be a part of a character.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DECIMALS = 6  # of a log probability; further digits are rounding noise


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token and its log probability."""

    token_id: int
    token: bytes
    logprob: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "logprob", round(self.logprob, DECIMALS) + 0.0)  # no minus zero on the wire

    @property
    def text(self) -> str:
        """The token as text; U+FFFD replaces bytes that are not a whole character."""
        return self.token.decode(errors="replace")

    @property
    def is_text(self) -> bool:
        """Whether `text` represents all bytes of the token."""
        return self.text.encode() == self.token

    def to_wire(self) -> list[Any]:
        """Return id, text (or a list of byte values if the text would lose bytes) and log probability."""
        return [self.token_id, self.text if self.is_text else list(self.token), self.logprob]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> ScoredToken:
        """Parse the wire form."""
        token_id, token, logprob = wire
        return cls(token_id, token.encode() if isinstance(token, str) else bytes(token), logprob)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A chosen token, and the most probable tokens at its position, best first. It need not be among them."""

    chosen: ScoredToken
    top: tuple[ScoredToken, ...] = ()

    def to_wire(self) -> list[Any]:
        """Return the chosen token's three values, then the list of the others."""
        return [*self.chosen.to_wire(), [one.to_wire() for one in self.top]]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> TokenLogprobs:
        """Parse the wire form."""
        *chosen, top = wire
        return cls(ScoredToken.from_wire(chosen), tuple(map(ScoredToken.from_wire, top)))
