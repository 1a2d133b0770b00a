"""Reads the datasets that the trainer has put into the run's folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from common.errors import InvalidRequest
from training.data import Dataset, DatasetFaults, read_dataset
from worker.training.task import DATASET, VALIDATION


def read(folder: Path) -> Dataset:
    """Return the dataset. Raises `InvalidRequest` with all its faults."""
    return _read(folder / DATASET, "file_id")


def read_validation(folder: Path) -> Dataset | None:
    """Return the held-out examples of the run, if they came apart. Raises `InvalidRequest` with all their faults."""
    path = folder / VALIDATION
    return _read(path, "validation_file_id") if path.is_file() else None


def sha256(folder: Path) -> str:
    """Return the hash of the dataset's file."""
    return hashlib.sha256((folder / DATASET).read_bytes()).hexdigest()


def _read(path: Path, param: str) -> Dataset:
    try:
        return read_dataset(path.read_bytes(), name="The file")
    except DatasetFaults as err:
        raise InvalidRequest(str(err), param=param) from err
