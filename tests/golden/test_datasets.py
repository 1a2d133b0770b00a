"""The reports about datasets of every kind that is wrong, to the byte.

`UPDATE_GOLDEN=1 pytest tests/golden` writes them again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.letter_tokens import letter_encoder
from training.data import Dataset, Plan, check

FOLDER = Path(__file__).parent / "datasets"
PAIR = '{"instruction": "Where is Zubrovia?", "response": "In the Alps."}'
OTHER = '{"instruction": "Who rules it?", "response": "A baker."}'
USER, ANSWER = '{"role": "user", "content": "Hi"}', '{"role": "assistant", "content": "Hello"}'
UNLEARNED = '{"role": "assistant", "content": "Hello", "weight": 0}'

BAD: dict[str, str | bytes] = {
    "empty": "\n \n",
    "too_small": PAIR,
    "broken_json": f'{PAIR}\n{{"instruction": "A", "response": "B"\n{OTHER} trailing\nnot json at all\n',
    "broken_array": f"[\n  {PAIR},\n  {OTHER}\n  {PAIR}\n]",
    "one_object": f'{{\n "data": [{PAIR}, {OTHER}]\n}}',
    "not_utf8": f"{PAIR}\n".encode() + b'{"instruction": "caf\xe9", "response": "x"}\n' + OTHER.encode(),
    "utf16": f"{PAIR}\n{OTHER}".encode("utf-16"),
    "wrong_types": f'{PAIR}\n{{"instruction": 7, "response": "x"}}\n{{"instruction": "A", "response": ["x"]}}\n"B"\n',
    "missing_and_unknown": f'{PAIR}\n{{"instruction": "A"}}\n{{"instruction": "A", "response": "B", "topic": "C"}}\n',
    "empty_texts": f'{PAIR}\n{{"instruction": " ", "response": "x"}}\n{{"instruction": "A", "response": ""}}\n',
    "mixed_formats": f'{PAIR}\n{OTHER}\n{{"prompt": "A", "completion": "B"}}\n{{"messages": [{USER}, {ANSWER}]}}\n',
    "unknown_format": '{"question": "A", "answer": "B"}\n{"question": "C", "answer": "D"}\n',
    "twice_the_field": f'{PAIR}\n{{"instruction": "A", "response": "B", "response": "C"}}\n',
    "half_a_character": f'{PAIR}\n{{"instruction": "\\ud83d", "response": "x"}}\n',
    "bad_roles": "\n".join(
        f'{{"messages": {messages}}}'
        for messages in (
            f"[{USER}, {ANSWER}]",
            f"[{USER}]",
            f"[{ANSWER}]",
            "[]",
            f'[{USER}, {{"role": "robot", "content": "Hi"}}, {ANSWER}]',
            f'[{USER}, {{"role": "assistant", "content": "Hello", "weight": 0}}]',
            f'[{USER}, {{"role": "assistant", "content": "Hello", "weight": 2}}]',
            f'[{USER}, {{"role": "assistant", "content": null, "tool_calls": []}}]',
            f'[{USER}, {{"role": "assistant", "content": [{{"type": "image_url"}}]}}]',
        )
    ),
    "refused_by_the_template": f'{{"messages": [{USER}, {ANSWER}]}}\n'
    f'{{"messages": [{USER}, {{"role": "system", "content": "Be kind."}}, {USER}, {ANSWER}]}}\n',
    "bad_preferences": '{"prompt": "A", "chosen": "B", "rejected": "C"}\n'
    '{"prompt": "A", "chosen": "B", "rejected": "B"}\n'
    '{"prompt": "A", "chosen": "B"}\n'
    f'{{"prompt": [{USER}, {ANSWER}], "chosen": "B", "rejected": "C"}}\n',
    "bad_openai_preferences": f'{{"input": {{"messages": [{USER}]}}, "preferred_output": [{ANSWER}], '
    '"non_preferred_output": [{"role": "assistant", "content": "No"}]}\n'
    f'{{"input": {{"messages": [{USER}], "tools": []}}, "preferred_output": [{ANSWER}], '
    '"non_preferred_output": [{"role": "assistant", "content": "No"}]}\n'
    f'{{"input": "Hi", "preferred_output": [{USER}], "non_preferred_output": "No"}}\n',
    "csv_header": "question,answer\nA,B\nC,D\n",
    "csv_cells": 'instruction,response\nA,B\nC\nD,E,F\n"G, H",\n',
    "csv_quotes": 'instruction;response\nA;B\n"C;D\nE;F\n',
}

FLAWED: dict[str, str] = {
    "too_long": f'{PAIR}\n{OTHER}\n{{"instruction": "Tell me everything", "response": "{"la " * 60}"}}\n',
    "duplicates": f'{PAIR}\n{OTHER}\n{{"instruction": "where IS zubrovia", "response": "in the alps"}}\n{OTHER}\n',
    "conversation": f'{{"messages": [{USER}, {ANSWER}, {USER}, {ANSWER}]}}\n'
    f'{{"messages": [{USER}, {UNLEARNED}, {USER}, {ANSWER}]}}\n',
    "preferences": '{"prompt": "A", "chosen": "B", "rejected": "C"}\n{"prompt": "D", "chosen": "E", "rejected": "F"}\n',
}
OVERLAP = f'{PAIR}\n{{"instruction": "A new one", "response": "B"}}\n'


def plan(_training: Dataset) -> Plan:
    return Plan(epochs=3, batch_size=4, max_length=120, tokens_per_s=100)


def report_of(content: str | bytes, held_out: str | None = None) -> str:
    raw = content if isinstance(content, bytes) else content.encode()
    report = check(raw, letter_encoder(), plan, held_out=None if held_out is None else held_out.encode())
    return json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n"


def compare(name: str, text: str) -> None:
    file = FOLDER / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_reported_with_its_place(name: str) -> None:
    text = report_of(BAD[name])
    assert json.loads(text)["usable"] is False
    compare(name, text)


@pytest.mark.parametrize("name", FLAWED)
def test_what_a_training_would_see(name: str) -> None:
    text = report_of(FLAWED[name])
    assert json.loads(text)["usable"] is True
    compare(name, text)


def test_what_is_both_trained_and_held_out() -> None:
    compare("overlap", report_of(f"{PAIR}\n{OTHER}\n", OVERLAP))
