"""Reading datasets: each format is recognised by itself, in JSON Lines, as a JSON array and in CSV."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import Conversation, Dataset, DatasetFaults, Message, Preference, read_dataset, write_dataset
from training.data.examples import pair
from training.data.reading import read_leniently

USER, ASSISTANT = {"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}
PAIR = pair("A?", "B.")
PREFERENCE = Preference((Message("user", "A?"),), "B.", "C.")

FORMS: list[tuple[str, dict[str, Any], object]] = [
    ("instruction", {"instruction": "A?", "response": "B."}, PAIR),
    ("alpaca", {"instruction": "A?", "input": "", "output": "B."}, PAIR),
    ("alpaca", {"instruction": "A?", "output": "B."}, PAIR),
    ("alpaca", {"instruction": "Sum it.", "input": "1 2", "output": "3"}, pair("Sum it.\n\n1 2", "3")),
    ("prompt_completion", {"prompt": "A?", "completion": "B."}, PAIR),
    ("prompt_completion", {"prompt": [USER], "completion": [ASSISTANT]}, PAIR),
    ("chat", {"messages": [USER, ASSISTANT]}, PAIR),
    ("chat", {"messages": [USER, ASSISTANT], "id": 7, "metadata": {"from": "me"}}, PAIR),
    ("preference", {"prompt": "A?", "chosen": "B.", "rejected": "C."}, PREFERENCE),
    ("preference", {"prompt": [USER], "chosen": [ASSISTANT], "rejected": "C."}, PREFERENCE),
    (
        "openai_preference",
        {
            "input": {"messages": [USER]},
            "preferred_output": [ASSISTANT],
            "non_preferred_output": [{"role": "assistant", "content": "C."}],
        },
        PREFERENCE,
    ),
]


def read(*rows: object) -> Dataset:
    return read_dataset("\n".join(map(json.dumps, rows)).encode(), name="mine")


def faults_of(content: bytes) -> list[str]:
    with pytest.raises(DatasetFaults) as caught:
        read_dataset(content, name="mine")
    return [str(one) for one in caught.value.faults]


@pytest.mark.parametrize(("name", "row", "example"), FORMS)
def test_each_format_is_recognised_in_lines_and_in_an_array(name: str, row: dict[str, Any], example: object) -> None:
    lines = read(row, row)
    assert (lines.format, lines.examples, lines.lines) == (name, (example, example), (1, 2))
    array = read_dataset(json.dumps([row, row], indent=1).encode(), name="mine")
    assert (array.format, array.examples) == (name, (example, example))


def test_csv_is_read_with_any_usual_delimiter_and_quoted_line_ends() -> None:
    for delimiter in ",;\t":
        text = f'instruction{delimiter}response\r\n"A, really; sure\t?\n"{delimiter}B.\r\n\r\nC?{delimiter}D.\r\n'
        dataset = read_dataset(text.encode("utf-8-sig"), name="mine")
        assert dataset.examples == (pair("A, really; sure\t?\n", "B."), pair("C?", "D."))
        assert dataset.lines == (2, 5)


def test_a_byte_order_mark_windows_line_ends_and_empty_lines_are_accepted() -> None:
    row = json.dumps({"instruction": "A?", "response": "B."})
    dataset = read_dataset(f"\N{BYTE ORDER MARK}\r\n{row}\r\n  \r\n{row}\r\n".encode(), name="mine")
    assert (dataset.examples, dataset.lines) == ((PAIR, PAIR), (2, 4))


def test_a_line_separator_inside_a_text_does_not_end_the_line() -> None:
    row = json.dumps({"instruction": "A\u2028B", "response": "C\x85D"}, ensure_ascii=False)
    assert read_dataset(f"{row}\n{row}\n".encode(), name="mine").examples == (pair("A\u2028B", "C\x85D"),) * 2


def test_only_the_assistant_is_learned_and_weight_0_is_honoured() -> None:
    turns = [USER, ASSISTANT | {"weight": 0}, USER, ASSISTANT | {"weight": 1}]
    (example, _) = read({"messages": turns}, {"messages": turns}).examples
    assert isinstance(example, Conversation)
    assert [one.is_learned for one in example.messages] == [False, False, False, True]


def test_developer_means_system_and_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B?"}]
    row = {"messages": [{"role": "developer", "content": "Be kind."}, USER | {"content": parts}, ASSISTANT]}
    example = read(row, row).examples[0]
    assert example.prompt == (Message("system", "Be kind."), Message("user", "A\nB?"))


def test_every_fault_is_listed_with_its_place() -> None:
    content = b"""{"instruction": "A?", "response": "B."}
{"instruction": "A?", "response": 7}
{"instruction": "A?"}
nonsense
{"prompt": "A?", "completion": "B."}
"""
    assert faults_of(content) == [
        "line 2, column 35: response: must be a text in quotes, not 7",
        "line 3, column 1: response: this field is missing",
        "line 4, column 1: not valid JSON: Expecting value; each line must be one object",
        "line 5, column 1: this is prompt_completion, but line 1 is instruction; a dataset has one format throughout",
    ]


def test_the_list_of_faults_is_bounded_and_counts_all() -> None:
    with pytest.raises(DatasetFaults) as caught:
        read_dataset(b'{"instruction": ""}\n' * 1000, name="mine")
    assert (len(caught.value.faults), caught.value.total) == (100, 1000)
    assert str(caught.value).endswith("... and 900 more")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=12,
)
NAMES = sorted({name for _, row, _ in FORMS for name in row})
ROWS = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), JSON | st.text(min_size=1), max_size=4),
    st.sampled_from([row for _, row, _ in FORMS]),
    JSON,
)
TEXT = st.text(min_size=1).filter(str.strip)


@given(st.one_of(st.binary(), st.text().map(str.encode), st.lists(ROWS).map(lambda rows: json.dumps(rows).encode())))
def test_no_content_crashes_the_reader(content: bytes) -> None:
    for one in (content, content.replace(b"}, ", b"}\n")[1:-1]):
        dataset, faults = read_leniently(one)
        assert all(fault.line >= 1 and fault.column >= 1 for fault in faults)
        if not faults:
            assert read_dataset(write_dataset(dataset), name="again").examples == dataset.examples


@given(st.lists(st.tuples(TEXT, TEXT, st.booleans()), min_size=2, max_size=5), st.sampled_from("\n ,;[{"))
def test_every_accepted_dataset_round_trips(rows: list[tuple[str, str, bool]], lead: str) -> None:
    turns = [
        [USER | {"content": lead + asked}, ASSISTANT | {"content": answer, "weight": int(weight)}, USER, ASSISTANT]
        for asked, answer, weight in rows
    ]
    dataset = read(*({"messages": one} for one in turns))
    assert read_dataset(write_dataset(dataset), name="again").examples == dataset.examples
