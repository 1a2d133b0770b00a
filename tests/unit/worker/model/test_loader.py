"""How the settings reach the engine."""

from __future__ import annotations

from pathlib import Path

from pydantic import ByteSize

from common.cores import usable_cores
from common.settings import Settings
from worker.engine.config import PREFILL_CHUNK, EngineConfig, RunnerConfig
from worker.model.loader import engine_config


def test_each_setting_of_the_engine_reaches_it(tmp_path: Path) -> None:
    settings = Settings(
        device="mps",
        dtype="float16",
        max_num_seqs=3,
        context=99,
        kv_memory=ByteSize(12345),
        kv_cache_dtype="int8",
        threads=5,
        data_dir=tmp_path,
    )

    assert engine_config(settings) == EngineConfig(
        device="mps",
        dtype="float16",
        runner=RunnerConfig(
            max_num_seqs=3,
            context_length=99,
            kv_bytes=12345,
            kv_cache_dtype="int8",
            num_threads=5,
            build_dir=tmp_path / "native",
        ),
        prefill_chunk=PREFILL_CHUNK,
    )


def test_without_a_number_of_threads_every_usable_core_is_used() -> None:
    assert engine_config(Settings(threads=0)).runner.num_threads == usable_cores()
