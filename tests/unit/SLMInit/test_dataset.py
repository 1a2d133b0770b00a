"""Reading the instruction dataset: which lines are accepted, and what the errors say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.errors import DatasetError
from SLMInit.dataset import Pair, read_pairs, split
from SLMInit.options import DEFAULT_DATA

GOOD = json.dumps({"instruction": "A?", "response": "B."})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.jsonl"


def error_of(file: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read_pairs(file)
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_pairs_come_in_the_order_of_the_file(file: Path) -> None:
    file.write_text('{"instruction": "A?", "response": "B."}\n\n  \n{"response": "D.", "instruction": " C?"}\n')
    assert read_pairs(file) == [Pair("A?", "B."), Pair(" C?", "D.")]


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(file: Path) -> None:
    file.write_bytes(f"\N{BYTE ORDER MARK}{GOOD}\r\n{GOOD}\r\n".encode())
    assert read_pairs(file) == [Pair("A?", "B.")] * 2


def test_a_line_separator_inside_a_text_does_not_end_the_line(file: Path) -> None:
    row = json.dumps({"instruction": "A\u2028B", "response": "C\x85D"}, ensure_ascii=False)
    file.write_text(f"{row}\n{GOOD}\n", encoding="utf-8")
    assert read_pairs(file)[0] == Pair("A\u2028B", "C\x85D")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"instruction": "A?"', "not valid JSON (Expecting ',' delimiter at column 21)"),
        (b"\xff\xfe", "not UTF-8"),
        (b'["A?", "B."]', "not a JSON object"),
        (b'{"instruction": "A?"}', "the field 'response' is missing"),
        (b'{"response": "B."}', "the field 'instruction' is missing"),
        (b'{"instruction": "A?", "response": 7}', "the field 'response' must be a string, not 7"),
        (b'{"instruction": null, "response": "B."}', "the field 'instruction' must be a string, not null"),
        (b'{"instruction": "A?", "response": " "}', "the field 'response' is empty"),
        (b'{"instruction": "A?", "input": "x", "response": "B."}', "the field 'input' is unknown"),
    ],
)
def test_a_bad_line_is_named_by_file_line_and_field(file: Path, line: bytes, reason: str) -> None:
    file.write_bytes(GOOD.encode() + b"\n\n" + line + b"\n")
    text = error_of(file)
    assert "line 3: " in text
    assert reason in text


def test_a_dataset_that_is_too_small_is_refused(file: Path) -> None:
    file.write_text(GOOD)
    assert "at least 2 pairs, one to train on and one to test with; it has 1" in error_of(file)


def test_a_missing_file_is_named(file: Path) -> None:
    assert "No such file" in error_of(file)


def test_the_seed_decides_which_tenth_of_the_pairs_is_held_out() -> None:
    pairs = [Pair(str(number), "x") for number in range(50)]
    train, held_out = split(pairs, seed=1)
    assert (len(train), len(held_out)) == (45, 5)
    assert {*train, *held_out} == set(pairs)
    assert split(pairs, seed=1) == (train, held_out)
    assert split(pairs, seed=2) != (train, held_out)


def test_there_is_always_a_pair_held_out_and_never_more_than_two_hundred() -> None:
    assert len(split([Pair("a", "x"), Pair("b", "x")], seed=0)[1]) == 1
    assert len(split([Pair(str(number), "x") for number in range(5000)], seed=0)[1]) == 200


def test_the_shipped_dataset_is_varied_and_consistent() -> None:
    pairs = read_pairs(DEFAULT_DATA)
    assert len(pairs) >= 150
    assert len({pair.instruction.lower() for pair in pairs}) == len(pairs)
    assert len({pair.response for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.response.splitlines()[-1].startswith("In short: "), pair.instruction
        assert pair == Pair(pair.instruction.strip(), pair.response.strip())
