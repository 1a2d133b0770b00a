"""How long a context a model was made for, by its config."""

from __future__ import annotations

from typing import Any

# What configs call it; the first that is there counts.
NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
    "n_ctx",
)


def declared_context(config: Any) -> int | None:
    """Most tokens, prompt and answer together; None if the config does not say.

    Args:
        config: the text model's `PreTrainedConfig`.
    """
    declared = (getattr(config, name, None) for name in NAMES)
    return next((one for one in declared if isinstance(one, int) and one > 0), None)
