from __future__ import annotations

import random

import pytest

from common.jobs.sampling import SamplingParams
from tests.unit.worker.engine.scripted_constraint import ScriptedConstraint
from worker.engine.output.stopping import StopCriteria, StopStringMatcher
from worker.engine.sequence import FinishReason, Sequence


def first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    """Naive oracle: the start of the stop string that is completed first; of several, the longest."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return min(starts)
    return None


def longest_beginning(text: str, stops: tuple[str, ...]) -> int:
    """Naive oracle: length of the longest suffix of the text that begins a stop string."""
    return max((n for stop in stops for n in range(len(stop)) if text.endswith(stop[:n])), default=0)


def feed_in_pieces(matcher: StopStringMatcher, pieces: list[str]) -> int | None:
    """Feed the pieces; return the stop's start in the whole text."""
    num_read = 0
    for piece in pieces:
        if (begin := matcher.feed(piece)) is not None:
            return num_read + begin
        num_read += len(piece)
    return None


@pytest.mark.parametrize("seed", range(200))
def test_stop_strings_are_found_however_the_text_is_split(seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choices("ab\n", k=30))
    stops = tuple("".join(rng.choices("ab\n", k=rng.randint(1, 6))) for _ in range(rng.randint(1, 3)))
    cuts = sorted(rng.sample(range(31), 6))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, 30], strict=True)]

    assert feed_in_pieces(StopStringMatcher(stops), pieces) == first_stop(text, stops)


@pytest.mark.parametrize("seed", range(200))
def test_exactly_a_possible_beginning_of_a_stop_string_is_held_back(seed: int) -> None:
    rng = random.Random(seed)
    stops = ("abab", "baa\n", "aaab")
    matcher, text = StopStringMatcher(stops), ""
    for char in rng.choices("ab\n", k=20):
        text += char
        if matcher.feed(char) is not None:
            break
        assert matcher.num_held == longest_beginning(text, stops)


def test_without_stop_strings_nothing_is_held_back() -> None:
    matcher = StopStringMatcher(("",))

    assert matcher.feed("anything") is None
    assert matcher.num_held == 0


@pytest.mark.parametrize(
    ("output_ids", "reason"),
    [
        ([], None),
        ([1, 2], None),
        ([1, 9], FinishReason.STOP),
        ([1, 2, 3, 9], FinishReason.STOP),
        ([1, 2, 3, 4], FinishReason.LENGTH),
    ],
)
def test_an_end_token_stops_and_comes_before_the_length(output_ids: list[int], reason: FinishReason | None) -> None:
    sequence = Sequence("a", [5, 5, 5], SamplingParams(seed=0, max_new_tokens=4), output_ids=output_ids)
    sequence.eos_token_ids = frozenset({9})

    assert StopCriteria(context_length=100).check(sequence) is reason


@pytest.mark.parametrize(
    ("params", "ends"),
    [
        (SamplingParams(seed=0), {8, 9}),
        (SamplingParams(seed=0, stop_token_ids=(4, 9)), {4, 8, 9}),
        (SamplingParams(seed=0, ignore_eos=True), set()),
        (SamplingParams(seed=0, ignore_eos=True, stop_token_ids=(4, 9)), {4, 9}),
    ],
)
def test_end_tokens_are_the_models_and_the_requests(params: SamplingParams, ends: set[int]) -> None:
    def ends_with(token: int) -> bool:
        sequence = Sequence("a", [5], params, output_ids=[token])
        sequence.eos_token_ids = frozenset({8, 9})
        return StopCriteria(context_length=100).check(sequence) is FinishReason.STOP

    assert {token for token in range(12) if ends_with(token)} == ends


def test_a_constraint_ends_an_answer_even_if_end_tokens_are_ignored() -> None:
    sequence = Sequence("a", [5], SamplingParams(seed=0, ignore_eos=True), output_ids=[9])
    sequence.constraint = ScriptedConstraint()
    sequence.eos_token_ids = frozenset({9})

    assert StopCriteria(context_length=100).check(sequence) is FinishReason.STOP


def test_the_end_of_the_context_ends_a_sequence() -> None:
    sequence = Sequence("a", [5, 5, 5], SamplingParams(seed=0), output_ids=[1, 2])
    criteria = StopCriteria(context_length=6)

    assert criteria.check(sequence) is None
    sequence.output_ids.append(3)
    assert criteria.check(sequence) is FinishReason.LENGTH
