"""Generates with a model, without torch; as a program, with a prepared model in a process of its own.

python -m tests.prepared_answers MODEL BUILD_DIR BASE_ID
"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import worker.celery.app
import worker.model.loader  # noqa: F401
from common.jobs.prompts import Conversation
from common.jobs.sampling import SamplingParams
from models.text.text_encoder import FastEncoding
from worker.engine.config import EngineConfig, RunnerConfig
from worker.engine.loading.loader import EngineModel, load_prepared
from worker.engine.sequence import Sequence, SequenceOutput

PARAMS = {
    "greedy": SamplingParams(seed=3, temperature=0.0, max_new_tokens=12, logprobs=3),
    "sampled": SamplingParams(seed=4, temperature=1.0, top_p=0.9, max_new_tokens=12),
}
PROMPT = Conversation(({"role": "user", "content": "Hi <|im_end|> there"},))


def config(build_dir: Path) -> EngineConfig:
    """Return a config on the CPU; the runner's threads do not change the results."""
    runner = RunnerConfig(max_num_seqs=2, context_length=64, kv_bytes=None, num_threads=1, build_dir=build_dir)
    return EngineConfig(device="cpu", dtype="auto", runner=runner)


def answers(model: EngineModel) -> dict[str, list[object]]:
    """Start the model's engine; return the answers' token ids, texts and log probabilities."""
    found: dict[str, list[object]] = {name: [] for name in PARAMS}
    ended = threading.Semaphore(0)

    def deliver(outputs: list[SequenceOutput]) -> None:
        for output in outputs:
            found[output.sequence_id] += [*output.token_ids, output.text, repr(output.logprobs)]
            if output.finish_reason is not None:
                ended.release()

    engine = model.start_engine(deliver, lambda _: None)
    for name, params in PARAMS.items():
        engine.submit(Sequence(name, model.renderer.render(PROMPT).token_ids, params))
    for _ in PARAMS:
        assert ended.acquire(timeout=60)
    return found


def main() -> None:
    """Print the answers of a prepared model, and the modules that were imported for them.

    Fails if the tokenizer with secret names, which was kept, is made again.
    """
    source, build_dir, base_id = sys.argv[1:]
    with patch.object(FastEncoding, "of", None):
        model = load_prepared(source, config(Path(build_dir)), base_name="tiny", base_id=base_id)
    assert model is not None
    with closing(model):
        print(json.dumps([answers(model), sorted(sys.modules)]))


if __name__ == "__main__":
    main()
