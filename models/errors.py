"""The errors before or after training, as one tree. The text of each error says what to do.

FineTuningError
├── BaseModelError     the base model is not available
├── DatasetError       a line of the instruction dataset is not valid
├── TrainingError      the training cannot start as requested, e.g. nothing to resume from
├── UnspellableText    a tokenizer has no tokens for a text
├── EncoderError       a folder has no model for embeddings that can be used
└── AdapterError       an adapter cannot be served on top of its base model
"""

from __future__ import annotations


class FineTuningError(Exception):
    """Base class of the tree; the scripts print it as one line and exit with status 1."""


class BaseModelError(FineTuningError):
    """The base model is not available."""


class DatasetError(FineTuningError):
    """A line of the instruction dataset is not valid; the text names file, line and field."""


class TrainingError(FineTuningError):
    """The training cannot start as requested."""


class UnspellableText(FineTuningError):
    """A tokenizer has no tokens for a text."""


class AdapterError(FineTuningError):
    """An adapter cannot be served on top of its base model; the text names both."""


class EncoderError(FineTuningError):
    """A folder has no model for embeddings that can be used; the text names the folder."""
