"""A real worker process with a fake model: `celery -A tests.fake_worker worker`.

It answers a prompt with the prompt itself; if the prompt begins with "endless", the answer continues until it is
stopped. `FAKE_STEP_MS` is the time of an engine step; `FAKE_LOAD_ERROR` makes loading fail with that text.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import ModelUnavailable
from common.observation.logs import configure_logging
from common.settings import Settings
from tests.fakes import (
    ASSISTANT,
    EOS,
    VOCAB_SIZE,
    ByteTokenizer,
    FakeRenderer,
    FakeRunner,
    echo,
    endless,
    fake_engine,
)
from worker.celery.app import WorkerApp
from worker.engine.engine import Deliver
from worker.engine.grammar.compiler import GrammarCompiler
from worker.engine.untrusted_code.services import SERVICES
from worker.helper.client import Helper
from worker.model.base_facts import BaseFacts
from worker.model.protocols import Accelerators, LoadedModel, ModelContent, ModelSpec


def plan(history: list[int]) -> int:
    prompt = bytes(history[: history.index(ASSISTANT)]).decode()
    return endless()(history) if prompt.startswith("endless") else echo(history)


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
        """Return the content; `FAKE_ADAPTER_FILE` stands for the adapter's file."""
        file = os.environ.get("FAKE_ADAPTER_FILE")
        try:
            return ModelContent("fake", file and Path(file).read_text())
        except OSError as err:
            raise ModelUnavailable(f"no adapter: {err}") from err

    def base(self) -> BaseFacts:
        return BaseFacts("fake", "fake", {})

    def load(self, deliver: Deliver, on_fatal: Callable[[Exception], None]) -> LoadedModel:
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

        def close() -> None:
            helper.close()
            engine.stop()
            runner.close()

        grammars = GrammarCompiler(helper, ByteTokenizer(), VOCAB_SIZE, frozenset({EOS}))
        return LoadedModel(
            engine, FakeRenderer(), grammars, "cpu", "float32", self._settings.context, self.content(), close
        )


_settings = Settings.from_env()
configure_logging(_settings.log_level, _settings.log_format)
app = WorkerApp(_settings, FakeModelLoader(_settings))
