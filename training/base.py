"""A base model as training sees it: its tokenizer, its weights, and the adapters on top."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from models.context import declared_context
from models.errors import BaseModelError, TrainingError
from models.text.conversation import ConversationEncoder
from models.text.saved_template import chat_template
from training.data import Encoder
from training.quiet import without_deprecations


@dataclass(frozen=True, slots=True)
class Base:
    """A base model, ready to be loaded.

    Attributes:
        name: the user's name for it, which its adapters record.
        source: its folder or hub id.
        context: the most tokens of a sequence; None: no known limit.
    """

    name: str
    source: str
    tokenizer: Any
    context: int | None

    def limit(self, max_length: int) -> int:
        """Return `max_length`, or the context if that is shorter."""
        return min(max_length, self.context or max_length)

    def template(self, adapter: Path | None = None) -> str:
        """Return the chat template: the adapter's, else the base's, else the one for models that have none."""
        return chat_template(self.tokenizer, adapter)

    def encoder(self, adapter: Path | None = None) -> Encoder:
        """Return an encoder with `template(adapter)`, which encodes as serving does."""
        return Encoder(ConversationEncoder(self.tokenizer, self.template(adapter)), self.tokenizer.eos_token_id)


def read_base(source: str, name: str) -> Base:
    """Read the config and the tokenizer, not the weights.

    Raises:
        BaseModelError: they cannot be read.
        TrainingError: the tokenizer has no token to end a response with.
    """
    try:
        config = AutoConfig.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as err:
        raise BaseModelError(f"Base model {name!r}: its config or tokenizer cannot be loaded: {err}") from err
    if tokenizer.eos_token_id is None:
        raise TrainingError(f"Base model {name!r}: its tokenizer has no end-of-text token to end a response with.")
    return Base(name, source, tokenizer, declared_context(config))


def load_weights(base: Base, device: str) -> Any:
    """Return the model in float32 on the device.

    Raises:
        BaseModelError: the weights cannot be loaded.
    """
    try:
        with without_deprecations():
            model: Any = AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32)
            return model.to(device)
    except (OSError, ValueError) as err:
        raise BaseModelError(f"Base model {base.name!r} cannot be loaded: {err}") from err
