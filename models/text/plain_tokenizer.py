"""A tokenizer as plain data, for a process that must not import transformers, which takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class TokenizerState:
    """A fast tokenizer of transformers as plain data; the fields are named as there.

    `backend` is the tokenizer in the `tokenizers` library's JSON format.
    """

    backend: str
    special_tokens_map: Mapping[str, str | list[str]]
    all_special_tokens: list[str]
    chat_control_tokens: list[str] | None
    eos_token_id: int

    @classmethod
    def of(cls, tokenizer: Any) -> TokenizerState | None:
        """Return the state of a transformers tokenizer; None if it is written in Python or has no end token."""
        if not getattr(tokenizer, "is_fast", False) or tokenizer.eos_token_id is None:
            return None
        names = {
            name: list(map(str, token)) if isinstance(token, list) else str(token)
            for name, token in tokenizer.special_tokens_map.items()
        }
        listed = getattr(tokenizer, "chat_control_tokens", None)
        return cls(
            tokenizer.backend_tokenizer.to_str(),
            names,
            list(map(str, tokenizer.all_special_tokens)),
            None if listed is None else list(listed),
            tokenizer.eos_token_id,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, the arguments of the class."""
        return asdict(self)


class PlainTokenizer:
    """A tokenizer from its state; `ConversationEncoder` takes it in place of a transformers tokenizer."""

    is_fast: ClassVar[bool] = True

    def __init__(self, state: TokenizerState) -> None:
        self.backend_tokenizer = Tokenizer.from_str(state.backend)
        self.added_tokens_decoder = self.backend_tokenizer.get_added_tokens_decoder()
        self.special_tokens_map = state.special_tokens_map
        self.all_special_tokens = state.all_special_tokens
        self.chat_control_tokens = state.chat_control_tokens
        self.eos_token_id = state.eos_token_id

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens, with the names of special tokens."""
        return str(self.backend_tokenizer.decode(ids, skip_special_tokens=False))
