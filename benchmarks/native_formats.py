"""The names of native runners in benchmarks: the format of the weights, and with `+kv8` a cache in int8."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.engine.config import RunnerConfig
from worker.engine.native.runner import NativeRunner

SHORT_CACHE = "+kv8"


def pack_native(name: str, model: Any, config: RunnerConfig, kernels: str | None) -> NativeRunner:
    """Return a native runner for a transformers model.

    Args:
        name: `fp32`, `int8`, `fp32+kv8` or `int8+kv8`.
        model: the model, whose weights are packed.
        config: the runner's configuration; its cache is as the name says.
        kernels: the kernel set; None: the best one for this CPU.
    """
    precision = name.removesuffix(SHORT_CACHE)
    if precision not in ("fp32", "int8"):
        raise ValueError(f"{name!r} is not a native number format")
    config = replace(config, kv_cache_dtype="auto" if precision == name else "int8")
    return NativeRunner.pack(model.config, model.state_dict(), config, precision=precision, kernels=kernels)
