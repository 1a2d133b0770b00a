"""Datasets: recognised, checked and split before anything heavy is loaded.

Rule of this folder: no torch, no transformers. Tokenizers and chat templates come in through `Conversations`.
"""

from training.data.encoding import Encoder, Row
from training.data.examples import Conversation, Dataset, Example, Message, Preference
from training.data.faults import DatasetFaults, Fault
from training.data.reading import read_dataset
from training.data.splitting import split
from training.data.writing import write_dataset

__all__ = [
    "Conversation",
    "Dataset",
    "DatasetFaults",
    "Encoder",
    "Example",
    "Fault",
    "Message",
    "Preference",
    "Row",
    "read_dataset",
    "split",
    "write_dataset",
]
