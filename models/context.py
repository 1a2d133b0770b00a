"""Reads the context length of a model from its config."""

from __future__ import annotations

from typing import Any

# The names used in configs; the first one present counts.
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
    """Return the maximum number of tokens (prompt and response together); None if the config does not say.

    Args:
        config: the text model's `PreTrainedConfig`.
    """
    declared = (getattr(config, name, None) for name in NAMES)
    return next((one for one in declared if isinstance(one, int) and one > 0), None)
