"""Configurations of small engines on the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from common.settings import ROOT, Device, Dtype
from worker.engine.config import PREFILL_CHUNK, EngineConfig, RunnerConfig

_SMALL = RunnerConfig(
    max_num_seqs=2, context_length=64, kv_bytes=None, num_threads=1, build_dir=ROOT / "data" / "native"
)


def runner_config(**changes: Any) -> RunnerConfig:
    """Return a config for two short sequences, with the given changes."""
    return replace(_SMALL, **changes)


def engine_config(
    *, device: Device = "cpu", dtype: Dtype = "auto", prefill_chunk: int = PREFILL_CHUNK, **runner_changes: Any
) -> EngineConfig:
    """Return the config of an engine with a runner of `runner_config`."""
    return EngineConfig(device=device, dtype=dtype, runner=runner_config(**runner_changes), prefill_chunk=prefill_chunk)
