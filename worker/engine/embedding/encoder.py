"""A model for embeddings in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from common.errors import InvalidRequest, PromptTooLong
from models.context import declared_context
from models.encoder import EncoderSpec
from models.errors import EncoderError
from worker.engine.embedding.layers import module_of, pooling_of, shortened

UNLIMITED = 1_000_000  # tokenizers without a limit state one above this


class Encoder:
    """Computes the vectors of texts and tokens. `tokens_of` may be called from any thread.

    Attributes:
        dimensions: the length of the vectors.
        max_tokens: the most tokens of one input.
        size: of the weights, in bytes.

    Raises:
        EncoderError: the files cannot be used.
    """

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        disable_progress_bar()  # type: ignore[no-untyped-call]
        self._spec = spec
        self._device = torch.device(device)
        self._lock = threading.Lock()  # a tokenizer cannot be used by two threads at once
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(spec.transformer, local_files_only=True)
            self._model: Any = AutoModel.from_pretrained(
                spec.transformer, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as err:
            raise EncoderError(f"The model in {str(spec.transformer)!r} cannot be loaded: {err}") from err
        config = self._model.config
        if getattr(config, "is_encoder_decoder", False):
            raise EncoderError(f"The model in {str(spec.transformer)!r} has a decoder; only encoders are supported.")
        self._model.eval().to(self._device)
        self._pool = pooling_of(spec.layers[0])
        self._rest = nn.Sequential(*map(module_of, spec.layers[1:])).eval().to(self._device)
        self._vocabulary: int = config.vocab_size
        self._padding: int = self._tokenizer.pad_token_id or 0
        self.max_tokens = self._limit(config)
        self.size = sum(one.numel() * one.element_size() for one in self._model.parameters())
        self.dimensions = len(self.vectors([[self._padding]])[0])

    def _limit(self, config: Any) -> int:
        """Return the most tokens of one input: the least of what the files say."""
        said = (self._spec.max_tokens, self._tokenizer.model_max_length, declared_context(config))
        return min((one for one in said if one is not None and one < UNLIMITED), default=UNLIMITED)

    def tokens_of(self, one: str | Sequence[int], param: str, *, prompt_name: str | None, truncate: bool) -> list[int]:
        """Return the tokens of an input; `param` names it in errors.

        Raises:
            PromptTooLong: it has too many tokens, and may not be cut.
            InvalidRequest: the model has no such tokens, or no such prompt.
        """
        prompt = self._prompt(prompt_name)
        tokens = self._encoded(prompt + one, truncate=truncate) if isinstance(one, str) else self._checked(one, param)
        if len(tokens) > self.max_tokens and not truncate:
            raise PromptTooLong(
                f"{param} has {len(tokens)} tokens; the limit of the model is {self.max_tokens}.", param=param
            )
        if not tokens:
            raise InvalidRequest(f"{param} must have at least one token; it has none.", param=param)
        return tokens[: self.max_tokens]

    def _prompt(self, name: str | None) -> str:
        name = self._spec.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self._spec.prompts:
            known = ", ".join(map(repr, self._spec.prompts)) or "none"
            raise InvalidRequest(
                f"prompt_name must be one of the model's prompts ({known}); got {name[:80]!r}.", param="prompt_name"
            )
        return self._spec.prompts[name]

    def _encoded(self, text: str, *, truncate: bool) -> list[int]:
        """Encode a text as sentence-transformers does: without white space at its ends."""
        text = text.strip().lower() if self._spec.lower_case else text.strip()
        limit = {"truncation": True, "max_length": self.max_tokens} if truncate else {}
        with self._lock:
            return list(self._tokenizer(text, verbose=False, **limit)["input_ids"])

    def _checked(self, tokens: Sequence[int], param: str) -> list[int]:
        if wrong := [token for token in tokens if not 0 <= token < self._vocabulary]:
            raise InvalidRequest(
                f"{param} must have tokens of the model, from 0 to {self._vocabulary - 1}; got {wrong[0]}.",
                param=param,
            )
        return list(tokens)

    def vectors(self, batch: Sequence[Sequence[int]]) -> Tensor:
        """Return the vectors of inputs, computed together: float32 on the CPU, one row for each."""
        longest = max(map(len, batch))
        ids = torch.full((len(batch), longest), self._padding)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        with torch.inference_mode():
            ids, mask = ids.to(self._device), mask.to(self._device)
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            found: Tensor = self._rest(self._pool(hidden, mask))
            return found.float().cpu()

    def shortened(self, vectors: Tensor, dimensions: int | None) -> Tensor:
        """Return the vectors with that many numbers each; None: unchanged."""
        return shortened(vectors, self._spec.layers, dimensions)
