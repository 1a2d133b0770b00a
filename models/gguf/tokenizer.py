"""Builds the tokenizer described by a GGUF file.

transformers' own reader treats unknown pre-tokenizers as GPT-2's, ignores NFC and Llama 3's whole-word rule, and does
not recognise control tokens with characters outside the byte alphabet (DeepSeek's).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

from models.gguf.file import GgufFile
from models.gguf.pre_tokenizers import GPT2, PRE_TOKENIZERS, PreTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

SPACE = "\u2581"  # a space in sentencepiece
SPECIAL_TOKENS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
PHI3_PLAIN_TOKENS = ("<unk>", "<s>", "<|endoftext|>")  # its other special tokens strip the spaces after them

log = logging.getLogger(__name__)


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def build_tokenizer(file: GgufFile) -> PreTrainedTokenizerBase:
    """Build the tokenizer; warns if the file names an unknown pre-tokenizer.

    Raises:
        BaseModelError: the file has no tokenizer, a damaged one, or one that is neither byte-level nor sentencepiece
            BPE.
    """
    from transformers import PreTrainedTokenizerFast

    build = {"gpt2": _byte_level, "llama": _sentencepiece}.get(kind := file.token_setting("model"))
    if not file.token_setting("tokens"):
        raise file.refusal("it has no tokenizer. Name a file that has one, or the model's folder.")
    if build is None:
        raise file.refusal(f"its tokenizer is of the kind {kind!r}, which is not supported. Use the model's folder.")
    tokenizer, adds_bos = build(file)
    _add_whole_tokens(tokenizer, file)
    _add_start_and_end(tokenizer, file, adds_bos=adds_bos)
    named = {f"{ours}_token": _token(file, theirs) for ours, theirs in SPECIAL_TOKENS.items()}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=file.setting("context_length"),
        chat_template=file.metadata.get("tokenizer.chat_template"),
        **{name: token for name, token in named.items() if token is not None},
    )


def _byte_level(file: GgufFile) -> tuple[Tokenizer, bool]:
    """Return a byte-level BPE tokenizer, and whether it adds a start token by default."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    rules = _pre_tokenizer(file)
    vocabulary = {token: token_id for token_id, token in enumerate(file.token_setting("tokens"))}
    merges = _checked_merges(file, vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=rules.ignores_merges))
    if rules.composes:
        tokenizer.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in rules.patterns]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, rules.adds_bos


def _pre_tokenizer(file: GgufFile) -> PreTokenizer:
    name = file.token_setting("pre")
    if name not in PRE_TOKENIZERS:
        log.warning(
            "%s has the unknown pre-tokenizer %r; texts are split as for GPT-2, so some tokens may differ from the "
            "model's training.",
            file.path.name,
            name,
        )
    return PRE_TOKENIZERS.get(name, GPT2)


def _checked_merges(file: GgufFile, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for line in file.token_setting("merges") or []:
        left, _, right = line.partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            raise file.refusal(f"its tokenizer merges {line!r}, which are not tokens of it. Get the file again.")
        merges.append((left, right))
    return merges


def _sentencepiece(file: GgufFile) -> tuple[Tokenizer, bool]:
    """Return a BPE tokenizer over whole texts, in which spaces count as letters, and True (it adds a start token)."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens = _with_written_spaces(file.token_setting("tokens"))
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    merges = _checked_merges(file, vocabulary) or _derived_merges(file, tokens, vocabulary)
    unknown = _token(file, "unknown")
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    begins_with_space = file.token_setting("add_space_prefix") is not False
    to_spaces = normalizers.Replace(" ", SPACE)
    prefix = [normalizers.Prepend(SPACE)] if begins_with_space else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, to_spaces])
    strip = [decoders.Strip(" ", 1, 0)] if begins_with_space else []
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer, True


def _with_written_spaces(tokens: Iterable[str]) -> list[str]:
    """Replace the spaces in Gemma's tokens of several spaces: the file has plain spaces, but the text has `SPACE`."""
    return [SPACE * len(token) if token.strip(" ") == "" else token for token in tokens]


def _derived_merges(file: GgufFile, tokens: list[str], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return every pair that forms a token, best tokens first: sentencepiece joins the pair with the best result."""
    scores = file.token_setting("scores")
    # Gemma's scores do not give the order in which its tokens were learned, but their ids do.
    by_id = file.architecture.startswith("gemma") or not scores
    types = file.token_setting("token_type") or [TokenType.NORMAL] * len(tokens)
    normal = [token_id for token_id, kind in enumerate(types) if kind == TokenType.NORMAL]
    merges = []
    for token_id in sorted(normal, key=lambda token_id: token_id if by_id else -scores[token_id]):
        token = tokens[token_id]
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        possible = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        merges += sorted(possible, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    return merges


def _add_whole_tokens(tokenizer: Tokenizer, file: GgufFile) -> None:
    """Add the control and user-defined tokens, which are matched in a text before it is split."""
    from tokenizers import AddedToken

    types = file.token_setting("token_type") or []
    tokens = [tokenizer.id_to_token(token_id) for token_id in range(len(types))]
    named = {_token(file, name) for name in SPECIAL_TOKENS.values()}
    is_phi3 = file.architecture == "phi3" and file.token_setting("model") == "llama"
    whole = []
    for token, kind in zip(tokens, types, strict=True):
        special = kind in (TokenType.CONTROL, TokenType.UNKNOWN) or token in named
        if token and (special or kind == TokenType.USER_DEFINED):
            takes_spaces = is_phi3 and token not in PHI3_PLAIN_TOKENS
            whole.append(AddedToken(token, rstrip=takes_spaces, normalized=False, special=special))
    tokenizer.add_tokens(whole)


def _add_start_and_end(tokenizer: Tokenizer, file: GgufFile, *, adds_bos: bool) -> None:
    from tokenizers import processors

    said = file.token_setting("add_bos_token")
    start = _token(file, "bos") if (adds_bos if said is None else said) else None
    end = _token(file, "eos") if file.token_setting("add_eos_token") else None
    around = [token for token in (start, end) if token is not None]
    if around:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*([start] if start else []), "$A", *([end] if end else [])],
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in around],
        )


def _token(file: GgufFile, name: str) -> str | None:
    """Return the token that the file names as its start, end, ... token."""
    token_id = file.token_setting(f"{name}_token_id")
    tokens = file.token_setting("tokens")
    return tokens[token_id] if token_id is not None and token_id < len(tokens) else None
