"""The part that is held out: its size, and that it does not ask what is trained in other words."""

from __future__ import annotations

import pytest

from training.data import Dataset, split
from training.data.examples import pair
from training.data.likeness import near_duplicates, normalised
from training.data.splitting import split_groups


def dataset(*pairs: tuple[str, str]) -> Dataset:
    return Dataset("instruction", tuple(pair(*one) for one in pairs), tuple(range(1, len(pairs) + 1)))


def words(number: int) -> str:
    return " ".join(f"{letter}{number}" for letter in "abcde")


@pytest.mark.parametrize(("size", "held_out"), [(2, 1), (14, 1), (50, 5), (5000, 200)])
def test_a_tenth_is_held_out_at_least_one_and_never_more_than_two_hundred(size: int, held_out: int) -> None:
    data = dataset(*((words(one), f"answer {one}") for one in range(size)))
    training, rest = split(data, seed=1)
    assert (len(training), len(rest)) == (size - held_out, held_out)
    assert {*training.examples, *rest.examples} == set(data.examples)


def test_the_seed_decides_which() -> None:
    data = dataset(*((words(one), f"answer {one}") for one in range(50)))
    assert split(data, seed=1) == split(data, seed=1)
    assert split(data, seed=2) != split(data, seed=1)


@pytest.mark.parametrize("seed", range(20))
def test_paraphrases_stay_on_one_side(seed: int) -> None:
    paraphrases = [(f"{ask} {words(fact)}?", f"It is {fact}.") for fact in range(20) for ask in ("What is", "Tell me")]
    reworded = [(f"Now please say {words(fact)} to me", f"other {fact}") for fact in range(100, 120)]
    reworded += [(f"now, please say {words(fact)} to ME!", f"another {fact}") for fact in range(100, 120)]
    parts = split_groups(dataset(*paraphrases, *reworded), seed)
    assert parts.grouped_by == "response and wording"
    assert len(parts.held_out) == 8
    for text in (lambda one: one.response, lambda one: normalised(one.prompt[0].content)):
        assert not {text(one) for one in parts.training.examples} & {text(one) for one in parts.held_out.examples}


def test_a_fact_with_more_paraphrases_than_are_held_out_is_not_lost() -> None:
    parts = split_groups(dataset(*((f"{words(one)}?", "It is blue.") for one in range(20))), seed=0)
    assert (parts.grouped_by, len(parts.held_out)) == ("wording", 2)
    same = split_groups(dataset(*(("Which colour?", "It is blue.") for _ in range(20))), seed=0)
    assert (same.grouped_by, len(same.held_out)) == ("nothing", 2)


def test_labels_of_a_classification_do_not_keep_it_together() -> None:
    parts = split_groups(dataset(*((words(one), ("good", "bad")[one % 2]) for one in range(100))), seed=0)
    assert (parts.grouped_by, len(parts.held_out)) == ("wording", 10)


def test_near_duplicates_share_four_fifths_of_their_words() -> None:
    texts = ["the red cat sat down", "down sat the red cat now", "the red dog ran away", "", "the red cat sat up here"]
    assert list(near_duplicates(texts)) == [(0, 1)]
