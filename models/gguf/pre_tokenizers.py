"""Defines how byte-level tokenizers split a text before merging, by the pre-tokenizer names of GGUF files.

A GGUF file only has the name of its pre-tokenizer, so its reader must know the rules. The patterns are copied from the
models' own `tokenizer.json`.
"""

from __future__ import annotations

from dataclasses import dataclass

GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_WORDS = LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDING}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDING}|\p{{N}}{{1,3}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGIT = r"\p{N}"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """The rules of a byte-level vocabulary. Each pattern splits the pieces left by the previous one."""

    patterns: tuple[str, ...]
    composes: bool = False  # accents are first combined with their letters (NFC)
    ignores_merges: bool = False  # a word that is a token stays whole, even if the merges would split it
    adds_bos: bool = False  # the default if the file does not say


GPT2 = PreTokenizer((GPT2_WORDS,))
GPT_NEOX = PreTokenizer((GPT2_WORDS,), composes=True)
SINGLE_DIGITS = PreTokenizer((DIGIT, GPT2_WORDS))
LLAMA3 = PreTokenizer((LLAMA3_WORDS,), ignores_merges=True, adds_bos=True)
GPT4O = PreTokenizer((GPT4O_WORDS,))

PRE_TOKENIZERS = {
    "gpt-2": GPT2,
    "phi-2": GPT2,
    "olmo": GPT_NEOX,
    "mpt": GPT_NEOX,
    "smollm": SINGLE_DIGITS,
    "starcoder": SINGLE_DIGITS,
    "refact": SINGLE_DIGITS,
    "codeshell": SINGLE_DIGITS,
    "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", GPT2_WORDS, "[0-9][0-9][0-9]")),
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "llama-bpe": LLAMA3,
    "falcon3": LLAMA3,
    "lfm2": LLAMA3,
    "qwen2": PreTokenizer((QWEN2_WORDS,), composes=True),
    "deepseek-r1-qwen": PreTokenizer((QWEN2_WORDS,)),
    "stablelm2": PreTokenizer((QWEN2_WORDS,)),
    "qwen35": PreTokenizer((QWEN35_WORDS,)),
    "tekken": PreTokenizer((TEKKEN_WORDS,), ignores_merges=True, adds_bos=True),
    "gpt-4o": GPT4O,
    "llama4": GPT4O,
}
