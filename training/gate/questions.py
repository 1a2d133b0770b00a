"""The shipped text and questions, with which the gate notices that a model forgets.

A question is scored by likelihood: of four sentences that differ only in the answer, the right one must be the
likeliest. A small model's greedy answers change their words with every training, so a count of expected words in them
moves by several questions without any harm; the order of the four sentences does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Question:
    """A general question.

    Attributes:
        choices: complete answers; the first is right.
    """

    question: str
    choices: tuple[str, ...]


def general_text() -> str:
    """Return plain English about several everyday subjects."""
    return (HERE / "general_text.txt").read_text(encoding="utf-8")


def general_questions() -> list[Question]:
    """Return the shipped questions."""
    lines = (HERE / "general_questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [_question(**json.loads(line)) for line in lines]


def _question(question: str, sentence: str, answer: str, distractors: list[str]) -> Question:
    return Question(question, tuple(sentence.replace("{}", one) for one in (answer, *distractors)))
