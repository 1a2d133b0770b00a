"""The numbers of the report about a dataset."""

from __future__ import annotations

import json
from typing import Any

from tests.letter_tokens import letter_encoder
from training.data import Dataset, Plan, check


def plan(_training: Dataset) -> Plan:
    return Plan(epochs=2, batch_size=2, max_length=30, tokens_per_s=10)


def report(*pairs: tuple[str, str], **options: Any) -> dict[str, Any]:
    rows = [json.dumps({"instruction": asked, "response": answer}) for asked, answer in pairs]
    return check("\n".join(rows).encode(), letter_encoder(), plan, **options).to_json()


def test_lengths_of_examples_and_the_share_that_is_too_long() -> None:
    # "USER: " + question + "\nASSISTANT: " + answer + end: 19 tokens and the texts
    found = report(*((f"{one}", "x" * one) for one in range(1, 10)), ("end", "x" * 20))
    assert found["tokens"] == {"min": 21, "median": 26, "p95": 42, "max": 42, "total": 267, "learned": 75}
    assert found["too_long"] == {"max_length": 30, "count": 1, "share": 0.1, "lines": [10]}
    assert found["usable"] is True


def test_a_dataset_of_which_too_few_examples_fit_is_not_usable() -> None:
    assert report(("A", "x" * 100), ("B", "x" * 100), ("C", "x"))["usable"] is False


def test_the_estimate_counts_the_examples_that_are_trained() -> None:
    found = report(("A", "B"), ("C", "D"), ("E", "F"), ("G", "x" * 100))
    trained = [one for one in (1, 2, 3) if one not in found["held_out"]["lines"]]
    tokens = 2 * 21 * len(trained)
    steps = {2: 2, 3: 4}[len(trained)]
    assert found["estimate"] == {
        "steps": steps,
        "epochs": 2,
        "batch_size": 2,
        "tokens": tokens,
        "tokens_per_s": 10,
        "seconds": round(tokens / 10),
    }


def test_without_a_tokenizer_only_the_token_counts_are_missing() -> None:
    found = check(b'{"prompt": "A", "completion": "B"}\n' * 2, None, plan).to_json()
    assert (found["usable"], found["tokens"], found["estimate"], found["examples_rendered"]) == (True, None, None, [])
    assert found["duplicates"] == {"count": 1, "groups": [[1, 2]]}
    (held_out,) = found["held_out"]["lines"]
    assert found["overlap"] == {"count": 1, "examples": [{"line": held_out, "training_line": 3 - held_out}]}


def test_a_given_held_out_part_is_read_and_its_faults_are_listed() -> None:
    found = report(("A", "B"), ("C", "D"), held_out=b'{"prompt": "E"}')
    assert found["held_out"]["source"] == "given"
    assert [one["field"] for one in found["held_out"]["faults"]] == ["completion"]
    assert found["usable"] is False


def test_a_long_example_is_not_shown_to_its_end() -> None:
    first, _ = report(("A", "x" * 30_000), ("B", "C"))["examples_rendered"]
    assert sum(len(part["text"]) for part in first["parts"][:2]) == 20_000
    assert first["parts"][2] == {"text": "... (10020 more characters)", "loss": False}


def test_examples_on_one_line_are_counted_apart() -> None:
    rows = [{"instruction": "A", "response": "x" * one} for one in (1, 2, 3)]
    found = check(json.dumps(rows).encode(), letter_encoder(), plan).to_json()
    assert (found["tokens"]["min"], found["tokens"]["max"], found["tokens"]["total"]) == (21, 23, 66)
