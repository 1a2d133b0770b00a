"""Text to token ids. What a user typed is text, also where it spells a special token."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tokenizers import Tokenizer

from SLMInit.chat_template import Message
from SLMInit.control_tokens import ControlTokens, MarkedMessages, Segment
from SLMInit.errors import UnspellableText

Encode = Callable[[str, bool], list[int]]  # a text, and whether with the tokens around it -> ids


class TextEncoder:
    """Makes token ids with one tokenizer. Safe from several threads.

    Where a method takes `encode`, that is used to do the work elsewhere, with the tokenizer of `state`.

    Args:
        tokenizer: of transformers.
        template: the chat template that the conversations are rendered with.

    Raises:
        TemplateError: `template` is none.
        UnspellableText, ValueError: the tokenizer cannot be used.
    """

    start_ids: list[int]
    """The tokens that the tokenizer puts before every text by itself, such as a start token."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        self._control = ControlTokens.of(tokenizer, template)
        make = _FastEncoding if getattr(tokenizer, "is_fast", False) else _SlowEncoding
        self._encoding: _Encoding = make(tokenizer, self._control.names)
        self.start_ids = _start_ids(self.text_ids("a"), self.part_ids("a"))

    @property
    def state(self) -> str | None:
        """The tokenizer that encodes, as the `tokenizers` library saves it; None for one that is written in Python."""
        return self._encoding.state

    def text_ids(self, text: str, encode: Encode | None = None) -> list[int]:
        """A user's text, with the tokens that the tokenizer puts around every text.

        Raises:
            UnspellableText: the tokenizer has no tokens for it.
        """
        return self._encoding.encode_whole(text, encode)

    def part_ids(self, text: str) -> list[int]:
        """A user's text alone. Raises as `text_ids`."""
        return self._encoding.encode([Segment(text, is_control=False)], None)

    def mark(self, messages: list[Message]) -> MarkedMessages:
        """Prepare messages to be rendered."""
        return self._control.mark(messages)

    def split(self, rendered: str, mark: str) -> list[Segment]:
        """The text of a conversation that was rendered from marked messages, its control tokens apart."""
        return self._control.split(rendered, mark)

    def segment_ids(self, segments: list[Segment], encode: Encode | None = None) -> list[int]:
        """The ids of such a text. Raises as `text_ids`."""
        return self._encoding.encode(segments, encode)


def encode_with(tokenizer: Tokenizer, text: str, *, with_tokens_around: bool) -> list[int]:
    """The ids of a text by a tokenizer of the `tokenizers` library.

    Raises:
        UnspellableText: the tokenizer has no tokens for it.
    """
    try:
        # without the tokens' places in the text, which nobody asks for here: a third faster
        (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=with_tokens_around)
        return list(encoding.ids)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as err:  # what the library stumbles over is no `Exception`
        raise UnspellableText(f"The model's tokenizer cannot spell this text: {err}") from err


class _Encoding(Protocol):
    @property
    def state(self) -> str | None: ...

    def encode(self, segments: list[Segment], encode: Encode | None) -> list[int]: ...

    def encode_whole(self, text: str, encode: Encode | None) -> list[int]: ...


class _FastEncoding:
    """Over a copy of the tokenizer in which no text can spell a control token: there they have secret names.

    Not looking for them is not enough: a Unigram or WordLevel model that has `</s>` in its vocabulary, or a BPE model
    with merges that lead to it, makes the token of the letters.
    """

    def __init__(self, tokenizer: Any, names: list[str]) -> None:
        secret = secrets.token_hex(8)
        self._secret_names = {name: f"\ue000{secret}.{index}\ue001" for index, name in enumerate(names)}
        self._tokenizer = _renamed(tokenizer.backend_tokenizer, self._secret_names)

    @property
    def state(self) -> str:
        return str(self._tokenizer.to_str())

    def encode(self, segments: list[Segment], encode: Encode | None) -> list[int]:
        text = "".join(self._secret_names[one.text] if one.is_control else one.text for one in segments)
        return (encode or self._encode)(text, False)

    def encode_whole(self, text: str, encode: Encode | None) -> list[int]:
        return (encode or self._encode)(text, True)

    def _encode(self, text: str, with_tokens_around: bool) -> list[int]:
        return encode_with(self._tokenizer, text, with_tokens_around=with_tokens_around)


def _renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """A copy of the tokenizer with other names for some tokens, under their old ids, and without truncation."""
    state = json.loads(tokenizer.to_str())
    state["truncation"] = state["padding"] = None
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    _rename_in_model(state["model"], names)
    copy = Tokenizer.from_str(json.dumps(state))
    moved = [old for old, new in names.items() if copy.token_to_id(new) != tokenizer.token_to_id(old)]
    if moved:
        raise ValueError(f"its tokenizer does not keep the id of {moved[0]!r}")
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
    """Over a tokenizer that is written in Python: text is encoded between the control tokens."""

    def __init__(self, tokenizer: Any, names: list[str]) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # nobody promises that its methods may run side by side
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
            raise UnspellableText(f"The model's tokenizer cannot spell {name!r} as text.")
        return ids


def _start_ids(whole: list[int], bare: list[int]) -> list[int]:
    """What stands before `bare` in `whole`."""
    starts = (start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
    return whole[: next(starts, 0)]
