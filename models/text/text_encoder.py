"""Encodes text to token ids. User input is always text, even if it contains the name of a special token."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, cast

from tokenizers import Tokenizer

from models.errors import UnspellableText
from models.text.chat_template import Message, Tool
from models.text.control_tokens import ControlTokens, MarkedMessages, Segment

Encode = Callable[[str, bool], list[int]]  # (text, whether to add start and end tokens) -> ids

KEPT_TEXTS, KEPT_CHARS = 64, 2000  # texts between control tokens whose ids are kept, and the characters of one at most


class TextEncoder:
    """Encodes with one tokenizer. Thread-safe.

    A method's `encode` argument, if given, does the encoding elsewhere, with the tokenizer of `state`.

    Args:
        tokenizer: a transformers tokenizer.
        template: the chat template with which the conversations are rendered.
        like: an encoding with the same tokenizer, to share memory with; it may be of another template.

    Raises:
        TemplateError: `template` is not a valid template.
        UnspellableText, ValueError: the tokenizer cannot be used.
    """

    start_ids: list[int]
    """The tokens that the tokenizer adds before every text, such as a start token."""
    encoding: Encoding
    """Encodes texts in which the control tokens are known; `like` shares it if both have the same control tokens."""

    def __init__(self, tokenizer: Any, template: str, like: Encoding | None = None) -> None:
        self._control = ControlTokens.of(tokenizer, template)
        self.encoding = _encoding(tokenizer, self._control.names, like)
        self.start_ids = _start_ids(self.text_ids("a"), self.part_ids("a"))

    @property
    def state(self) -> str | None:
        """The tokenizer in the `tokenizers` library's JSON format; None for a tokenizer written in Python."""
        return self.encoding.state

    def text_ids(self, text: str, encode: Encode | None = None) -> list[int]:
        """Return the ids of a user's text, with the start and end tokens that the tokenizer adds to every text.

        Raises:
            UnspellableText: the tokenizer has no tokens for it.
        """
        return self.encoding.encode_whole(text, encode)

    def part_ids(self, text: str) -> list[int]:
        """Return the ids of a user's text without start and end tokens. Raises like `text_ids`."""
        return self.encoding.encode([Segment(text, is_control=False)], None)

    def mark(self, messages: list[Message], tools: Sequence[Tool] = ()) -> MarkedMessages:
        """Mark messages and tools for rendering (`ControlTokens.mark`)."""
        return self._control.mark(messages, tools)

    def split(self, rendered: str, mark: str) -> list[Segment]:
        """Split a conversation rendered from marked messages into text and control tokens."""
        return self._control.split(rendered, mark)

    def segment_ids(self, segments: list[Segment], encode: Encode | None = None) -> list[int]:
        """Return the ids of the segments from `split`. Raises like `text_ids`."""
        return self.encoding.encode(segments, encode)


def encode_with(tokenizer: Tokenizer, text: str, *, with_tokens_around: bool) -> list[int]:
    """Return the ids of a text, with a tokenizer of the `tokenizers` library.

    Raises:
        UnspellableText: the tokenizer has no tokens for it.
    """
    try:
        # without the tokens' offsets in the text, which are not used here: a third faster
        (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=with_tokens_around)
        ids: list[int] = encoding.ids
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as err:  # a panic in the library is not an `Exception`
        raise UnspellableText(f"The model's tokenizer cannot encode this text: {err}") from err
    return ids


class Encoding(Protocol):
    """A tokenizer that knows some control tokens; its methods are as those of `TextEncoder`."""

    names: list[str]
    """The names of the control tokens."""

    @property
    def state(self) -> str | None:
        """As `TextEncoder.state`."""
        ...

    def encode(self, segments: list[Segment], encode: Encode | None) -> list[int]:
        """As `TextEncoder.segment_ids`."""
        ...

    def encode_whole(self, text: str, encode: Encode | None) -> list[int]:
        """As `TextEncoder.text_ids`."""
        ...


def _encoding(tokenizer: Any, names: list[str], like: Encoding | None) -> Encoding:
    if like is not None and like.names == names:
        return like
    return (
        FastEncoding.of(tokenizer, names) if getattr(tokenizer, "is_fast", False) else _SlowEncoding(tokenizer, names)
    )


class FastEncoding:
    """Uses a copy of the tokenizer whose control tokens have secret names, so that no text can contain one.

    Disabling the search for them is not enough: a Unigram or WordLevel model with `</s>` in its vocabulary, or a BPE
    model with merges that lead to it, still produces that token from the letters.

    Args:
        tokenizer: the copy.
        secret_names: the names of its control tokens there, by their own names.
    """

    def __init__(self, tokenizer: Tokenizer, secret_names: Mapping[str, str]) -> None:
        self.names = list(secret_names)
        self.secret_names = secret_names
        self._tokenizer = tokenizer
        self._is_separable = _is_separable(tokenizer, secret_names.values())
        self._control_ids = {name: cast(int, tokenizer.token_to_id(secret)) for name, secret in secret_names.items()}
        self._kept_ids = lru_cache(KEPT_TEXTS)(lambda text: tuple(self._encode(text, False)))

    @classmethod
    def of(cls, tokenizer: Any, names: list[str]) -> FastEncoding:
        """Return one of a transformers tokenizer; `names` are those of its control tokens."""
        secret = secrets.token_hex(8)
        secret_names = {name: f"\ue000{secret}.{index}\ue001" for index, name in enumerate(names)}
        return cls(_renamed(tokenizer.backend_tokenizer, secret_names), secret_names)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> FastEncoding:
        """Return the encoding from its JSON form, in half of the time that `of` takes."""
        return cls(Tokenizer.from_str(kept["tokenizer"]), kept["secret_names"])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form. Clients must not see it: it has the secret names."""
        return {"tokenizer": self.state, "secret_names": dict(self.secret_names)}

    @property
    def state(self) -> str:
        """As `TextEncoder.state`."""
        return str(self._tokenizer.to_str())

    def encode(self, segments: list[Segment], encode: Encode | None) -> list[int]:
        """As `TextEncoder.segment_ids`."""
        if encode is None and self._is_separable:
            return [token for one in segments for token in self._segment_ids(one)]
        text = "".join(self.secret_names[one.text] if one.is_control else one.text for one in segments)
        return (encode or self._encode)(text, False)

    def _segment_ids(self, segment: Segment) -> Sequence[int]:
        """Return the ids of a segment. What the template writes comes again and again, so its ids are kept."""
        if segment.is_control:
            return (self._control_ids[segment.text],)
        return self._kept_ids(segment.text) if len(segment.text) <= KEPT_CHARS else self._encode(segment.text, False)

    def encode_whole(self, text: str, encode: Encode | None) -> list[int]:
        """As `TextEncoder.text_ids`."""
        return (encode or self._encode)(text, True)

    def _encode(self, text: str, with_tokens_around: bool) -> list[int]:
        return encode_with(self._tokenizer, text, with_tokens_around=with_tokens_around)


def _is_separable(tokenizer: Tokenizer, names: Iterable[str]) -> bool:
    """Return whether the text between two of these tokens always has the ids that it has alone.

    A token may take spaces beside it or be found only in the normalized text, and some tokenizers treat the first text
    differently.
    """
    added = {one.content: one for one in tokenizer.get_added_tokens_decoder().values()}
    is_own = all(
        (one := added.get(name)) and not (one.lstrip or one.rstrip or one.single_word or one.normalized)
        for name in names
    )
    before = tokenizer.pre_tokenizer
    return is_own and (before is None or b'"first"' not in before.__getstate__())


def _renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """Return a copy of the tokenizer without truncation, with some tokens renamed but under their old ids."""
    state = json.loads(tokenizer.to_str())
    state["truncation"] = state["padding"] = None
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    _rename_in_model(state["model"], names)
    copy = Tokenizer.from_str(json.dumps(state))
    moved = [old for old, new in names.items() if copy.token_to_id(new) != tokenizer.token_to_id(old)]
    if moved:
        raise ValueError(f"its tokenizer changes the id of {moved[0]!r} when the token is renamed")
    return copy


def _rename_in_model(model: dict[str, Any], names: Mapping[str, str]) -> None:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): token_id for token, token_id in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if model.get("unk_token") is not None:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        prefix = len(model.get("continuing_subword_prefix") or "")
        model["merges"] = [
            (left, right)
            for left, right in model["merges"]
            if names.keys().isdisjoint((left, right, left + right[prefix:]))
        ]


class _SlowEncoding:
    """Uses a tokenizer written in Python: encodes the text between the control tokens."""

    def __init__(self, tokenizer: Any, names: list[str]) -> None:
        self.names = names
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # its methods are not guaranteed to be thread-safe
        self._ids = {name: tokenizer.convert_tokens_to_ids(name) for name in names}
        self._control_ids = frozenset(self._ids.values()) - {tokenizer.unk_token_id}

    @property
    def state(self) -> None:
        return None

    def encode(self, segments: list[Segment], _encode: Encode | None) -> list[int]:
        ids: list[int] = []
        for segment in segments:
            ids += [self._ids[segment.text]] if segment.is_control else self._encode(segment.text)
        return ids

    def encode_whole(self, text: str, _encode: Encode | None) -> list[int]:
        ids: list[int] = self._tokenizer.build_inputs_with_special_tokens(self._encode(text))
        return ids

    def _encode(self, text: str) -> list[int]:
        with self._lock:
            tokens = self._tokenizer.tokenize(text, split_special_tokens=True)
            ids: list[int] = self._tokenizer.convert_tokens_to_ids(tokens)
        if found := self._control_ids.intersection(ids):
            name = self._tokenizer.convert_ids_to_tokens(min(found))
            raise UnspellableText(f"The model's tokenizer cannot encode {name!r} as text.")
        return ids


def _start_ids(whole: list[int], bare: list[int]) -> list[int]:
    """Return the tokens before `bare` in `whole`."""
    starts = (start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
    return whole[: next(starts, 0)]
