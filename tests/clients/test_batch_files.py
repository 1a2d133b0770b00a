"""The batch client's files: bad ones are refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from slm_batch.cli import main
from slm_batch.item import BadPrompts, read_items


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no prompts"),
        ("{", "line 1 is not JSON"),
        ('"one"\n7', 'line 2 must be a string or an object with a "prompt"'),
        ('{"prompt": 7}', "line 1 must be"),
        ('{"prompt": "x", "temprature": 1}', "line 1: 'temprature' is not an option; known: adapter, choice"),
        ('{"prompt": "x", "id": 2}\n{"prompt": "y"}', "two prompts have the id '2'"),
    ],
)
def test_a_bad_file_of_prompts_is_refused_naming_the_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(BadPrompts, match=complaint):
        read_items(file, {})


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"caf\xe9\n")
    with pytest.raises(BadPrompts, match="not UTF-8"):
        read_items(file, {})


@pytest.mark.parametrize("options", [["-o", "x"], ["-o", "prompt=y"], ["--url", "http://127.0.0.1:1", "-n", "1"]])
def test_a_wrong_command_or_file_exits_with_2(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, answers = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    prompts.write_text("one\n")
    answers.write_text('{"not": "ours"}\n')
    assert main([str(prompts), str(answers), *options]) == 2
    assert capsys.readouterr().err.startswith("batch: ")
    assert answers.read_text() == '{"not": "ours"}\n'


def test_a_missing_file_exits_with_2(tmp_path: Path) -> None:
    assert main([str(tmp_path / "none.txt"), str(tmp_path / "answers.jsonl")]) == 2
