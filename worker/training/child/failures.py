"""Translates the errors of training into errors for the client."""

from __future__ import annotations

import logging

from redis.exceptions import RedisError

from common.errors import InternalError, InvalidRequest, ModelUnavailable, SLMError, TrainingFailed
from common.redis.client import explain
from models.errors import AdapterError, BaseModelError, DatasetError, FineTuningError

PACKAGES = {"trl", "datasets", "peft", "accelerate", "jsonschema", "matplotlib"}  # only of the training extra
PARAMS = {"validation": "validation_file_id"}  # names in a request that differ from those of the library

log = logging.getLogger(__name__)


def failure_of(err: Exception) -> SLMError:
    """Return the error for the client; one that only a bug can cause is logged."""
    if isinstance(err, SLMError):
        return err
    if isinstance(err, RedisError):
        return explain(err)
    if isinstance(err, FineTuningError):
        return _of_training(err)
    if isinstance(err, ImportError) and err.name in PACKAGES:
        return TrainingFailed(
            f"The package {err.name!r} is missing: install requirements/train.txt in the trainer's environment."
        )
    if isinstance(err, OSError) and err.strerror:
        return TrainingFailed(f"The run's files cannot be used: {err.strerror}.")
    if _is_out_of_memory(err):
        return TrainingFailed("The device has too little memory for this run: use a smaller batch_size or max_length.")
    log.error("the training failed", exc_info=err)
    return InternalError("The training failed inside the server; its log has the details.")


def _of_training(err: FineTuningError) -> SLMError:
    if isinstance(err, DatasetError):
        return InvalidRequest(str(err), param="file_id")
    if isinstance(err, (BaseModelError, AdapterError)):
        return ModelUnavailable(str(err))
    if (field := getattr(err, "field", None)) is not None:
        return InvalidRequest(str(err), param=PARAMS.get(field, str(field)))
    return TrainingFailed(str(err))


def _is_out_of_memory(err: Exception) -> bool:
    return isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError"
