"""Ollama's `options`, with its defaults."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from pydantic import Field

from api.schemas.ignored import IGNORED
from api.schemas.sampling import MAX_NEW_TOKENS, MAX_SEED
from api.schemas.strict import FIRST_ERROR, Strict
from common.jobs.sampling import Grammar, SamplingParams

Ignored = Annotated[int | float | bool | None, IGNORED]


class OllamaOptions(Strict):
    """Those in the second part cannot change an answer of this server; the last ones only have the value for "off"."""

    temperature: float = Field(0.8, ge=0, le=5)
    top_k: int = Field(40, ge=0, le=1_000_000)
    top_p: float = Field(0.9, gt=0, le=1)
    min_p: float = Field(0.0, ge=0, le=1)
    repeat_penalty: float = Field(1.1, ge=0.01, le=100)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    seed: int | None = Field(None, ge=-MAX_SEED - 1, le=MAX_SEED)
    num_predict: int = Field(-1, ge=-2, le=MAX_NEW_TOKENS)
    stop: Annotated[list[str], Field(max_length=8), FIRST_ERROR] = Field(default_factory=list)

    num_ctx: Ignored = None
    num_keep: Ignored = None
    num_batch: Ignored = None
    num_gpu: Ignored = None
    main_gpu: Ignored = None
    num_thread: Ignored = None
    numa: Ignored = None
    low_vram: Ignored = None
    f16_kv: Ignored = None
    vocab_only: Ignored = None
    use_mmap: Ignored = None
    use_mlock: Ignored = None
    mirostat_tau: Ignored = None
    mirostat_eta: Ignored = None

    mirostat: Annotated[Literal[0] | None, IGNORED] = None
    typical_p: Annotated[Literal[1] | None, IGNORED] = None
    tfs_z: Annotated[Literal[1] | None, IGNORED] = None
    repeat_last_n: Annotated[Literal[-1] | None, IGNORED] = None  # the whole text
    penalize_newline: Annotated[Literal[True] | None, IGNORED] = None

    def sampling(self, grammar: Grammar | None) -> SamplingParams:
        """Return the sampling parameters; a random seed if it is missing or negative."""
        is_random = self.seed is None or self.seed < 0
        return SamplingParams(
            seed=secrets.randbelow(MAX_SEED) if is_random or self.seed is None else self.seed,
            max_new_tokens=self.num_predict if self.num_predict > 0 else MAX_NEW_TOKENS,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            stop=tuple(filter(None, self.stop)),
            grammar=grammar,
        )
