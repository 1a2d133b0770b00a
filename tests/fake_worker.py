"""A real worker process with a fake model: `celery -A tests.fake_worker worker`.

It answers a prompt with the prompt itself; if the prompt begins with "endless", the answer continues until it is
stopped. `FAKE_STEP_MS` is the time of an engine step; `FAKE_LOAD_ERROR` makes loading fail with that text.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import ModelUnavailable
from common.observation.logs import configure_logging
from common.settings import Settings
from tests.adapter_files import SHAPES
from tests.fakes import (
    ASSISTANT,
    EOS,
    VOCAB_SIZE,
    ByteTokenizer,
    FakePreparedAdapter,
    FakeRenderer,
    FakeRunner,
    echo,
    endless,
    fake_engine,
    saying,
)
from worker.celery.app import WorkerApp
from worker.engine.engine import Deliver
from worker.engine.grammar.compiler import GrammarCompiler
from worker.engine.sequence import BASE_ADAPTER
from worker.engine.untrusted_code.services import SERVICES
from worker.helper.client import Helper
from worker.model.adapter_cache import AdapterCache
from worker.model.adapter_files import AdapterFiles
from worker.model.base_facts import BaseFacts
from worker.model.protocols import (
    Accelerators,
    AdapterObserver,
    LoadedAdapter,
    LoadedModel,
    ModelContent,
    ModelSpec,
)


def plan(history: list[int]) -> int:
    prompt = bytes(history[: history.index(ASSISTANT)]).decode()
    return endless()(history) if prompt.startswith("endless") else echo(history)


def read_fake_adapter(files: AdapterFiles, adapter_id: str) -> FakePreparedAdapter:
    """Read an adapter that begins its answers with the word in its config (else its id); `bytes` is its size."""
    config = json.loads((files.folder(adapter_id) / "adapter_config.json").read_text())
    time.sleep(config.get("seconds", 0))
    if "error" in config:
        raise ModelUnavailable(config["error"])
    return FakePreparedAdapter(config.get("bytes", 1), saying(config.get("says", adapter_id)))


class FakeModelLoader:
    """Loads the fake model."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def accelerators(self) -> Accelerators:
        return Accelerators(cuda=False, mps=False)

    def spec(self) -> ModelSpec:
        return ModelSpec("cpu", "fake", None)

    def content(self) -> ModelContent:
        """Return the content; `FAKE_BASE_FILE` and `FAKE_ADAPTER_FILE` stand for the files of base and adapter."""
        base, adapter = os.environ.get("FAKE_BASE_FILE"), os.environ.get("FAKE_ADAPTER_FILE")
        try:
            return ModelContent(Path(base).read_text() if base else "fake", adapter and Path(adapter).read_text())
        except OSError as err:
            raise ModelUnavailable(f"no adapter: {err}") from err

    def base(self) -> BaseFacts:
        """Return the facts; with `FAKE_ADAPTERS`, adapters of `tests.adapter_files` fit."""
        return BaseFacts(self._settings.lane_base or "fake", "fake", SHAPES if "FAKE_ADAPTERS" in os.environ else {})

    def load(self, deliver: Deliver, on_fatal: Callable[[Exception], None], observer: AdapterObserver) -> LoadedModel:
        if message := os.environ.get("FAKE_LOAD_ERROR"):
            raise ModelUnavailable(message)
        time.sleep(0.3)  # long enough for the state "loading" to be visible
        runner = FakeRunner(
            plan,
            max_num_seqs=self._settings.max_num_seqs,
            context_length=self._settings.context,
            step_delay_s=float(os.environ.get("FAKE_STEP_MS", "1")) / 1000,
        )
        engine = fake_engine(deliver, runner=runner, on_fatal=on_fatal)
        engine.start()

        helper = Helper(SERVICES)
        grammars = GrammarCompiler(helper, ByteTokenizer(), VOCAB_SIZE, frozenset({EOS}))
        files = AdapterFiles.from_settings(self._settings)

        def in_memory(adapter_id: str, num_bytes: int, free: Callable[[], None]) -> LoadedAdapter:
            return LoadedAdapter(adapter_id, FakeRenderer(), grammars, num_bytes, free)

        def load_adapter(adapter_id: str) -> LoadedAdapter:
            prepared = read_fake_adapter(files, adapter_id)
            engine.add_adapter(adapter_id, prepared, decoder=ByteTokenizer(), eos_token_ids=frozenset({EOS}))
            return in_memory(adapter_id, prepared.num_bytes, lambda: engine.remove_adapter(adapter_id))

        base = in_memory(BASE_ADAPTER, 0, lambda: None)
        adapters = AdapterCache(
            base,
            load_adapter,
            max_bytes=self._settings.adapter_memory,
            observer=observer,
            is_here=files.is_here,
            fetch=files.fetch,
        )
        adapters.start()

        def close() -> None:
            adapters.close()
            helper.close()
            engine.stop()
            runner.close()

        return LoadedModel(engine, adapters, "cpu", "float32", self._settings.context, self.content().base, close)


_settings = Settings.from_env().of_worker()
configure_logging(_settings.log_level, _settings.log_format)
app = WorkerApp(_settings, FakeModelLoader(_settings))
