"""The real default model. Where it is not installed these tests are skipped, but in CI they fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from common.settings import ROOT
from tests.missing import skip_or_fail

MIB = 2**20
NAME = "SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def folder() -> Path:
    found = Path(os.environ.get("SLM_DATA_DIR", ROOT / "data")) / "models" / NAME
    if not found.is_dir():
        skip_or_fail(f"the default model is not installed: python -m models.base_model puts it at {found}")
    return found


def run_program(program: str, folder: Path, *arguments: str) -> Any:
    """Run the program in a process of its own; return what its last line says in JSON."""
    command = [sys.executable, "-c", PRELUDE + program, str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


PRELUDE = """
import json, re, sys
from pathlib import Path
import torch
from common.jobs.sampling import SamplingParams
from common.settings import ROOT
from tests.engine_config import engine_config
from tests.fakes import Outputs
from worker.engine.loading.loader import load_model
from worker.engine.sequence import Sequence

torch.set_num_threads(1)
outputs = Outputs()

def load(dtype="float32"):
    config = engine_config(dtype=dtype, max_num_seqs=4, context_length=512)
    model = load_model(sys.argv[1], config, base_name="SmolLM2-135M-Instruct")
    pytorch_model = model.model
    engine = model.start_engine(outputs, print)
    return model, engine, pytorch_model

def answer(model, engine, prompts, max_new_tokens):
    for prompt in prompts:
        params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=max_new_tokens)
        engine.submit(Sequence(prompt, model.renderer.render(prompt).token_ids, params))
    outputs.wait_for(*prompts, timeout_s=200)
"""


QUESTIONS = ["What is the capital of France?", "Count to five.", "Name a colour: " * 20]
ANSWERS = """
import torch
from common.jobs.sampling import Grammar, GrammarKind

prompts, asked = json.loads(sys.argv[2])
asked = {prompt: grammar and Grammar(GrammarKind(grammar[0]), grammar[1]) for prompt, grammar in asked.items()}
model, engine, pytorch_model = load()
answer(model, engine, prompts, 12)
pairs = []
for prompt in prompts:
    token_ids = torch.tensor([model.renderer.render(prompt).token_ids])
    mask = torch.ones_like(token_ids)
    whole = pytorch_model.generate(token_ids, attention_mask=mask, max_new_tokens=12, do_sample=False)
    pairs.append([outputs.token_ids(prompt), whole[0, token_ids.shape[1]:].tolist()])

def run(prompt, grammar, name, committed=()):
    params = SamplingParams(seed=1, temperature=0.0, max_new_tokens=100)
    constraint = None if grammar is None else model.texts.base.grammars.compile(grammar)
    prompt_ids = model.renderer.render(prompt).token_ids
    engine.submit(Sequence(name, prompt_ids, params, output_ids=list(committed), constraint=constraint))

def texts(prefix):
    return [outputs.text(prefix + prompt) for prompt in asked]

for prompt, grammar in asked.items():
    run(prompt, grammar, "together: " + prompt)
outputs.wait_for(*("together: " + prompt for prompt in asked), timeout_s=200)
for prompt, grammar in asked.items():
    run(prompt, grammar, "alone: " + prompt)
    outputs.wait_for("alone: " + prompt, timeout_s=200)
person = next(iter(asked))
run(person, asked[person], "continued", outputs.token_ids("together: " + person)[:8])
outputs.wait_for("continued", timeout_s=200)
model.close()
found = {"together": texts("together: "), "alone": texts("alone: "), "continued": outputs.text("continued")}
print(json.dumps(found | {"pairs": pairs, "text": outputs.text(prompts[0])}))
"""


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    age: Annotated[int, Field(ge=0, le=150)]
    hobbies: Annotated[list[Literal["reading", "chess", "swimming"]], Field(min_length=1, max_length=3)]


@pytest.fixture(scope="module")
def answers(folder: Path) -> Any:
    """Plain answers and answers with grammars, all from one process, because it needs seconds to load the model."""
    asked = {
        "Describe a person in JSON.": ("json_schema", json.dumps(Person.model_json_schema())),
        "Make a JSON object for a student.": ("json_object", ""),
        "When does the train leave?": ("regex", r"at [0-2]\d:[0-5]\d (sharp|or so)"),
        "Is Paris in France?": ("choice", '["yes", "no", "maybe"]'),
        "What is the capital of France?": None,
    }
    return run_program(ANSWERS, folder, json.dumps([QUESTIONS, asked]))


def test_the_default_models_answers_are_those_of_generate(answers: Any) -> None:
    for own, expected in answers["pairs"]:
        assert own == expected
    assert "Paris" in answers["text"]


def test_the_default_models_answers_follow_grammars_and_do_not_change_others(answers: Any) -> None:
    assert answers["together"] == answers["alone"]
    described, free_json, time, choice, free = answers["together"]
    Person.model_validate_json(described)
    assert isinstance(json.loads(free_json), dict)
    assert re.fullmatch(r"at [0-2]\d:[0-5]\d (sharp|or so)", time)
    assert choice in ("yes", "no", "maybe")
    assert "Paris" in free
    assert answers["continued"] == described


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_unloading_frees_the_memory(folder: Path) -> None:
    program = """
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

import peft
sizes = [resident()]
for _ in range(2):
    model, engine = load("int8")[:2]
    answer(model, engine, ["Hi", "one two three " * 100], 3)
    sizes.append(resident())
    model.close()
    outputs.deliveries.clear()
    sizes.append(resident())
print(json.dumps(sizes))
"""
    before, loaded, unloaded, loaded_again, unloaded_again = run_program(program, folder)

    assert loaded - before > 100 * MIB
    assert unloaded - before < 100 * MIB
    assert loaded_again - loaded < 100 * MIB
    assert unloaded_again - before < 100 * MIB
