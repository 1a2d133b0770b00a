"""A prepared model starts without torch, transformers and the weights, and gives the same answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers.decoders import Metaspace

from common.jobs.sampling import SamplingParams
from common.settings import ROOT
from models.text.plain_tokenizer import PlainTokenizer
from tests.engine_config import engine_config
from tests.fakes import Outputs
from tests.unit.worker.engine.tiny_models import make_tokenizer, save_model
from worker.engine.config import EngineConfig
from worker.engine.loading.loader import EngineModel, load_model, load_prepared
from worker.engine.loading.prepared import plain_state
from worker.engine.native.build import build_library
from worker.engine.sequence import Sequence

CHAT = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"
PARAMS = [SamplingParams(seed=3, temperature=0.0, max_new_tokens=8), SamplingParams(seed=4, max_new_tokens=8)]
TORCH_FREE = """
import json, sys
from pathlib import Path
from common.jobs.sampling import SamplingParams
from tests.fakes_of_prepared import answers
json.dump([answers(sys.argv[1], sys.argv[2]), sorted(sys.modules)], sys.stdout)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny-llama", chat_template=CHAT)


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    config = engine_config()
    library = build_library(config.runner.build_dir)
    folder = tmp_path / "native"
    folder.mkdir()
    shutil.copy(library, folder)
    return replace(config, runner=replace(config.runner, build_dir=folder))
