"""A tokenizer as plain data, for a process that must not import transformers, which takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, overload

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
    """A tokenizer from its state, in place of a fast tokenizer of transformers: what serving and training use of one.

    Args:
        state: the tokenizer.
        chat_template: its template, if it has one.
    """

    is_fast: ClassVar[bool] = True

    def __init__(self, state: TokenizerState, chat_template: str | None = None) -> None:
        self.state = state
        self.backend_tokenizer = Tokenizer.from_str(state.backend)
        self.added_tokens_decoder = self.backend_tokenizer.get_added_tokens_decoder()
        self.added_tokens_encoder = {token.content: token_id for token_id, token in self.added_tokens_decoder.items()}
        self.special_tokens_map = state.special_tokens_map
        self.all_special_tokens = state.all_special_tokens
        self.all_special_ids = [self.backend_tokenizer.token_to_id(token) for token in state.all_special_tokens]
        self.chat_control_tokens = state.chat_control_tokens
        self.chat_template = chat_template
        self.bos_token, self.eos_token, unknown = map(
            state.special_tokens_map.get, ("bos_token", "eos_token", "unk_token")
        )
        self.eos_token_id = state.eos_token_id
        self._unk_token_id = self.backend_tokenizer.token_to_id(unknown) if isinstance(unknown, str) else None

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def get_vocab(self) -> dict[str, int]:
        """Return all tokens with their ids."""
        return dict(self.backend_tokenizer.get_vocab(with_added_tokens=True))

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text."""
        return list(self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(
        self,
        ids: list[int],
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: Literal[False] = False,  # noqa: ARG002 - nobody here wants the clean-up
    ) -> str:
        """Return the text of tokens."""
        return str(self.backend_tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    @overload
    def convert_ids_to_tokens(self, ids: int) -> str | None: ...
    @overload
    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]: ...
    def convert_ids_to_tokens(self, ids: int | list[int]) -> str | list[str | None] | None:
        """Return the names of one or several tokens; None if there is no such token."""
        if isinstance(ids, list):
            return [self.convert_ids_to_tokens(token_id) for token_id in ids]
        name: str | None = self.backend_tokenizer.id_to_token(ids)
        return name

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int | None]:
        """Return the ids of tokens; that of the unknown token, or None, if there is no such token."""
        found = (self.backend_tokenizer.token_to_id(token) for token in tokens)
        return [self._unk_token_id if token_id is None else token_id for token_id in found]
