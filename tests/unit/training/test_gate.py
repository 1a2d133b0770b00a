from __future__ import annotations

import dataclasses
from typing import Any

import pytest

pytest.importorskip("torch")

from training.errors import RecipeError
from training.gate.measure import Comparison, Measures
from training.gate.prompts import FixedPrompt
from training.gate.questions import general_questions, general_text
from training.gate.verdict import QUESTIONS_MARGIN, TEXT_MARGIN, judge

BASE = Measures(trained=0.4, held_out=3.0, general_text=2.7, general_questions=0.9, prompts=0.5)
BETTER = dataclasses.replace(BASE, trained=0.95, held_out=1.0)


def failed(
    candidate: Measures, current: Measures | None = None, base: Measures = BASE, *, by_heart: bool = True
) -> list[str]:
    report = judge(Comparison(base, current, candidate, num_questions=40, num_prompts=2, by_heart=by_heart))
    names = [row.name for row in report.rows if not row.passed]
    assert report.passed == (not names)
    return names


def test_a_better_candidate_without_harm_passes() -> None:
    assert failed(BETTER) == []


def test_a_candidate_that_learned_nothing_fails() -> None:
    assert failed(BASE) == ["trained", "held_out"]
    assert failed(BASE, by_heart=False) == ["held_out"]
    assert failed(dataclasses.replace(BETTER, held_out=3.1)) == ["held_out"]


def test_a_candidate_that_learned_a_style_but_no_facts_fails_if_the_dataset_is_small() -> None:
    style = dataclasses.replace(BETTER, trained=0.85)
    assert failed(style) == ["trained"]
    assert failed(style, by_heart=False) == []
    assert failed(dataclasses.replace(style, trained=0.39), by_heart=False) == ["trained"]


def test_a_candidate_must_not_be_worse_than_the_version_that_it_replaces() -> None:
    current = dataclasses.replace(BETTER, held_out=0.9)
    assert failed(BETTER, current) == ["held_out"]
    assert failed(current, current) == [], "as good is good enough"


def test_a_candidate_may_forget_a_little_but_not_more() -> None:
    least = 0.9 - QUESTIONS_MARGIN / 40
    assert failed(dataclasses.replace(BETTER, general_questions=least)) == []
    assert failed(dataclasses.replace(BETTER, general_questions=least - 1 / 40)) == ["general_questions"]
    assert failed(dataclasses.replace(BETTER, general_text=2.7 + TEXT_MARGIN)) == []
    assert failed(dataclasses.replace(BETTER, general_text=2.71 + TEXT_MARGIN)) == ["general_text"]


def test_the_bounds_of_forgetting_are_the_bases_so_that_many_versions_do_not_drift() -> None:
    current = dataclasses.replace(BETTER, general_questions=0.86)
    assert failed(dataclasses.replace(BETTER, general_questions=0.82), current) == ["general_questions"]


def test_the_users_prompts_must_be_answered_as_well_as_before() -> None:
    assert failed(dataclasses.replace(BETTER, prompts=0.0)) == ["prompts"]
    assert failed(dataclasses.replace(BETTER, prompts=0.5), dataclasses.replace(BETTER, prompts=1.0)) == ["prompts"]
    none = dataclasses.replace(BASE, prompts=None)
    assert failed(dataclasses.replace(BETTER, prompts=None), base=none) == []


def test_the_report_says_why() -> None:
    report = judge(Comparison(BASE, None, BASE, num_questions=40, num_prompts=0, by_heart=True)).to_json()
    assert report["passed"] is False
    assert [row["name"] for row in report["rows"]][:2] == ["trained", "held_out"]
    assert report["rows"][1] == {
        "name": "held_out",
        "better": "lower",
        "base": 3.0,
        "current": None,
        "candidate": 3.0,
        "bound": 3.0,
        "passed": False,
        "reason": "lower than the base's, and not higher than the replaced version's",
    }


@pytest.mark.parametrize(
    ("prompt", "answer", "good"),
    [
        (FixedPrompt("?", ("violet",)), "It is Violet.", True),
        (FixedPrompt("?", ("violet", "light")), "It is violet.", False),
        (FixedPrompt("?", json_schema={"type": "object", "required": ["a"]}), '{"a": 1}', True),
        (FixedPrompt("?", json_schema={"type": "object", "required": ["a"]}), '{"b": 1}', False),
        (FixedPrompt("?", json_schema={"type": "object"}), "no JSON", False),
        (FixedPrompt("?", ("1",), {"type": "object"}), '{"a": 2}', False),
    ],
)
def test_an_answer_needs_all_expected_words_and_the_schema(prompt: FixedPrompt, answer: str, good: bool) -> None:
    assert prompt.is_good(answer) is good


@pytest.mark.parametrize(
    ("expected", "schema", "message"),
    [
        ((), None, "needs expected words or a json_schema"),
        ((), {"type": "nonsense"}, "is not valid: 'nonsense'"),
        (("a",), {"pattern": "("}, "is not valid"),
        ((), {"$ref": "http://127.0.0.1:1/schema"}, "refers to what it does not have"),
        ((), {"$ref": "#/$defs/none"}, "refers to what it does not have"),
    ],
    ids=["nothing", "type", "pattern", "elsewhere", "nowhere"],
)
def test_a_prompt_that_cannot_be_judged_is_refused(expected: tuple[str, ...], schema: Any, message: str) -> None:
    with pytest.raises(RecipeError, match="prompts: ") as refused:
        FixedPrompt("Who?", expected, schema)
    assert (refused.value.field, message in str(refused.value)) == ("prompts", True)


def test_the_shipped_questions_are_forty_with_four_different_choices() -> None:
    questions = general_questions()
    assert len({one.question for one in questions}) == 40
    assert all(len(set(one.choices)) == 4 for one in questions)
    assert questions[0].choices[0] == "The capital of France is Paris."


def test_the_shipped_text_is_long_enough_to_be_steady() -> None:
    assert len(general_text().split()) > 500
