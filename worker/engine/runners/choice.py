"""Chooses the runner of a loaded model: our own for its device if possible, else transformers' modelling code."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Any

import torch

from common.errors import ModelUnavailable
from common.settings import Dtype
from worker.engine.config import RunnerConfig
from worker.engine.device.runner import DeviceRunner
from worker.engine.kv_cache.budget import default_kv_bytes, sequence_bytes
from worker.engine.model_runner import (
    CacheTooSmall,
    DeviceLostError,
    ModelRunner,
    OutOfMemoryError,
    UnsupportedModelError,
)
from worker.engine.native.errors import NativeUnavailable
from worker.engine.native.paged_out import PagedOutTensors
from worker.engine.native.runner import NativeRunner
from worker.engine.runners.check import RunnerCheck
from worker.engine.runners.transformers.runner import TransformersRunner

logger = logging.getLogger(__name__)

FLOAT32, INT8 = "float32", "int8"
INT8_TOLERANCE = 0.15  # as `check.TOLERANCES`; the quality of int8 is measured by perplexity


def make_runner(model: Any, config: RunnerConfig, dtype: Dtype) -> tuple[ModelRunner, str]:
    """Return the runner, checked against the model's own forward, and the name of its number format.

    Args:
        model: a `PreTrainedModel` in evaluation mode on its device. Our own runners keep only its tensors.
        config: without `kv_bytes` the size of the cache depends on the device, and is at least two full sequences.
        dtype: the value of `SLM_DTYPE`; auto on a CPU is int8, which reads a quarter of the bytes per token.

    Raises:
        ModelUnavailable: the model cannot be served at all, in the requested number format, or within `kv_bytes`.
    """
    torch.set_num_threads(config.num_threads)
    try:
        config = replace(config, kv_bytes=config.kv_bytes or _default_budget(model, config.context_length))
        return _make_runner(model, RunnerCheck(model), config, dtype)
    except UnsupportedModelError as error:
        raise ModelUnavailable(f"{error} Serve another base model (SLM_BASE_MODEL).") from error
    except CacheTooSmall as err:
        raise ModelUnavailable(f"{err} Set SLM_KV_MEMORY higher or SLM_CONTEXT lower.") from err


def _make_runner(model: Any, check: RunnerCheck, config: RunnerConfig, dtype: Dtype) -> tuple[ModelRunner, str]:
    if model.device.type == "cpu" and model.dtype is torch.float32:
        try:
            native = NativeRunner.pack(
                model.config,
                PagedOutTensors(model.state_dict()),
                config,
                precision="fp32" if dtype == FLOAT32 else "int8",
            )
            is_exact = dtype == FLOAT32 and config.kv_cache_dtype != INT8
            _check_native(native, check, None if is_exact else INT8_TOLERANCE)
            return native, native.number_format
        except (NativeUnavailable, UnsupportedModelError) as err:
            if names := _settings_for_native(config, dtype):
                raise ModelUnavailable(
                    f"int8 is not available on this machine: {err} Set {' and '.join(names)} to auto."
                ) from err
            logger.warning("the native kernels are not used, so generation is slower: %s", err)
    number_format = str(model.dtype).removeprefix("torch.")
    if model.device.type != "cpu":
        try:
            # The cache saves seconds of compilation.
            os.environ.setdefault("TRITON_CACHE_DIR", str(config.build_dir.with_name("triton")))
            return _device_runner(model, check, config), number_format
        except UnsupportedModelError as err:
            logger.warning("decode steps are not captured as CUDA graphs, so generation is slower: %s", err)
    return _transformers_runner(model, check, config), number_format


def _settings_for_native(config: RunnerConfig, dtype: Dtype) -> list[str]:
    """Return the settings that only the native runner can follow."""
    chosen = {"SLM_DTYPE": dtype, "SLM_KV_CACHE_DTYPE": config.kv_cache_dtype}
    return [name for name, value in chosen.items() if value == INT8]


def _default_budget(model: Any, context_length: int) -> int:
    needed = sequence_bytes(model.config.get_text_config(), context_length, model.dtype.itemsize)
    return max(default_kv_bytes(model.device.type), 2 * needed)


def _check_native(native: NativeRunner, check: RunnerCheck, tolerance: float | None) -> None:
    """Check the runner, and close it if it fails the check. Raises `UnsupportedModelError`."""
    try:
        check.check(native, tolerance)
    except UnsupportedModelError:
        native.close()
        raise
    # From now on only the sampler uses torch; torch's idle threads would compete with the kernels' threads.
    torch.set_num_threads(1)


def _device_runner(model: Any, check: RunnerCheck, config: RunnerConfig) -> ModelRunner:
    """Raise `UnsupportedModelError`, also if there is not enough memory or its steps cannot be captured."""
    try:
        runner = DeviceRunner(model.config, model.state_dict(), config, device=model.device, dtype=model.dtype)
        _prepare(runner, check)
    except OutOfMemoryError as err:
        raise UnsupportedModelError(f"The device does not have enough memory: {err}") from err
    except (DeviceLostError, RuntimeError) as err:
        # A failed capture looks like a device fault. If it is one, the check of the next runner reports it.
        raise UnsupportedModelError(f"Its steps cannot be captured: {err}") from err
    return runner


def _prepare(runner: DeviceRunner, check: RunnerCheck) -> None:
    """Check the runner and capture its steps; close it if that fails."""
    try:
        check.check(runner)
        runner.warm_up()
    except (UnsupportedModelError, OutOfMemoryError, DeviceLostError, RuntimeError):
        runner.close()
        raise


def _transformers_runner(model: Any, check: RunnerCheck, config: RunnerConfig) -> ModelRunner:
    """Raise `UnsupportedModelError` if the runner does not support the model."""
    runner = TransformersRunner(model, config)
    check.check(runner)
    return runner
