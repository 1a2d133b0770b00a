"""The text side of a model and its adapters: tokenizers, templates, end tokens, grammars. Equal ones are one object."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.text.saved_template import chat_template
from worker.engine.grammar.compiler import GrammarCompiler
from worker.engine.loading.tokenizer import (
    SETTINGS,
    VOCABULARIES,
    differs,
    end_token_ids,
    is_copy,
    load_tokenizer,
    warn_if_larger,
)
from worker.engine.output.token_bytes import TokenBytes, fallback_bytes
from worker.engine.prompts.prompt import PromptRenderer
from worker.engine.untrusted_code.client import UntrustedPrograms
from worker.helper.client import Helper

_FILES = (*VOCABULARIES, *SETTINGS)


class TokenizerDecoder:
    """The `TokenDecoder` of a transformers tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder.items()
        self.special_token_ids = frozenset({token_id for token_id, token in added if token.special})
        self.fallback_bytes: Mapping[int, int] = fallback_bytes(tokenizer)
        self._tokenizer = tokenizer
        self._token_bytes = TokenBytes(tokenizer, self.special_token_ids, self.decode)

    def token_bytes(self, token_id: int) -> bytes:
        """As `TokenDecoder.token_bytes`."""
        return self._token_bytes.of(token_id)

    def decode(self, token_ids: list[int]) -> str:
        """As `TokenDecoder.decode`."""
        # The clean-up of spaces depends on the following tokens, so it cannot be done token by token.
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


@dataclass(frozen=True, eq=False, slots=True)
class ModelText:
    """How a base model or an adapter reads and writes text."""

    tokenizer: Any
    renderer: PromptRenderer
    decoder: TokenizerDecoder
    eos_token_ids: frozenset[int]
    grammars: GrammarCompiler


@dataclass(slots=True)
class _Shared:
    text: ModelText
    num_users: int = 0


class ModelTexts:
    """The texts of a base model and of its adapters in memory. Thread-safe.

    Adapters with the same tokenizer files share one text, and an adapter whose tokenizer, template or end tokens equal
    the base model's shares these parts with it.

    Args:
        source: the base model, a local folder or a hub id.
        base: its text.
        declared_end_ids: the end tokens that its settings declare.
        vocab_size: number of tokens that the model computes.
        helper, programs: for the grammars and templates of the adapters.
    """

    def __init__(
        self,
        source: str,
        base: ModelText,
        declared_end_ids: frozenset[int],
        vocab_size: int,
        helper: Helper,
        programs: UntrustedPrograms,
    ) -> None:
        self.base = base
        self._source = source
        self._declared_end_ids = declared_end_ids
        self._vocab_size = vocab_size
        self._helper = helper
        self._programs = programs
        self._lock = threading.Lock()
        self._shared: dict[str, _Shared] = {}  # by the hash of the files
        self._equal: set[str] = set()  # hashes of files that were found to give the base model's text

    def acquire(self, folder: Path) -> ModelText:
        """Return the text of an adapter; `release` it when the adapter is no longer in memory.

        Raises:
            UnusableFiles, TakesTooMuch, TemplateError, UnspellableText, OSError, ValueError: its tokenizer or template
                cannot be used.
        """
        if (files := _text_files(folder)) == []:
            return self.base
        key = _hash(files)
        with self._lock:
            if key in self._equal:
                return self.base
            if key not in self._shared:
                if (text := self._text(folder)) is self.base:
                    self._equal.add(key)
                    return text
                self._shared[key] = _Shared(text)
            self._shared[key].num_users += 1
            return self._shared[key].text

    def release(self, text: ModelText) -> None:
        """Free the text, unless another adapter shares it."""
        with self._lock:
            for key, shared in list(self._shared.items()):
                if shared.text is text:
                    shared.num_users -= 1
                    if not shared.num_users:
                        self._free(self._shared.pop(key).text)

    def close(self) -> None:
        """Free the texts of all adapters and the base model's grammars."""
        with self._lock:
            for shared in self._shared.values():
                self._free(shared.text)
            self._shared.clear()
        self.base.grammars.close()

    def _free(self, text: ModelText) -> None:
        if text.renderer is not self.base.renderer:
            text.renderer.close()
        if text.grammars is not self.base.grammars:
            text.grammars.close()

    def _text(self, folder: Path) -> ModelText:
        base = self.base
        tokenizer = self._tokenizer(folder)
        is_bases = tokenizer is base.tokenizer
        template = chat_template(tokenizer, folder)
        if is_bases and template == base.renderer.template:
            return base
        renderer = PromptRenderer(tokenizer, folder, self._programs, base.renderer.parts if is_bases else None)
        decoder = base.decoder if is_bases else TokenizerDecoder(tokenizer)
        ends = end_token_ids(self._declared_end_ids, tokenizer, template)
        if is_bases and ends == base.eos_token_ids:
            return ModelText(tokenizer, renderer, decoder, ends, base.grammars)
        return ModelText(
            tokenizer, renderer, decoder, ends, GrammarCompiler(self._helper, decoder, self._vocab_size, ends)
        )

    def _tokenizer(self, folder: Path) -> Any:
        """Return the adapter's tokenizer, which is the base model's object if both are equal."""
        base = self.base.tokenizer
        # Python is held for up to half a second while a tokenizer is loaded, so a copy is recognised by its files.
        if not differs(folder, base) or is_copy(folder, Path(self._source)):
            return base
        tokenizer = load_tokenizer(self._source, folder, trust_remote_code=False, local_files_only=True)
        if _are_equal(tokenizer, base):
            return base
        warn_if_larger(tokenizer, self._vocab_size)
        return tokenizer


def _text_files(folder: Path) -> list[Path]:
    return sorted({file for pattern in _FILES for file in folder.glob(pattern)})


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(f"{file.name} {hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _are_equal(one: Any, other: Any) -> bool:
    """Return whether two tokenizers give the same tokens and texts."""
    if not (getattr(one, "is_fast", False) and getattr(other, "is_fast", False)):
        return False
    return bool(
        one.special_tokens_map == other.special_tokens_map
        and one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()
    )
