from __future__ import annotations

import random

from worker.engine.prompt_lookup import LONGEST, SHORTEST, PromptLookup


def test_tokens_that_followed_the_newest_ones_before_are_drafted() -> None:
    assert PromptLookup().draft_tokens([1, 2, 3, 4, 5, 9, 2, 3], 3) == [4, 5, 9]


def test_a_cyclic_text_is_drafted_to_continue() -> None:
    assert PromptLookup().draft_tokens([1, 2, 3, 4, 5, 2, 3], 1) == [4]
    assert PromptLookup().draft_tokens([7, 8, 7, 8], 5) == [7, 8, 7, 8, 7]


def test_the_latest_of_several_matches_counts() -> None:
    assert PromptLookup().draft_tokens([1, 2, 5, 0, 1, 2, 6, 0, 1, 2], 1) == [6]


def test_a_longer_match_counts_more_than_a_later_shorter_one() -> None:
    assert PromptLookup().draft_tokens([9, 1, 2, 5, 0, 1, 2, 6, 9, 1, 2], 1) == [5]


def test_nothing_is_drafted_from_a_single_token_or_new_text() -> None:
    assert PromptLookup().draft_tokens([1, 2, 3, 2], 4) == []
    assert PromptLookup().draft_tokens([1, 2, 3, 4], 4) == []
    assert PromptLookup().draft_tokens([1], 4) == []
    assert PromptLookup().draft_tokens([], 4) == []


def test_an_incremental_lookup_drafts_the_same_as_a_fresh_one() -> None:
    chosen = random.Random(3)
    for _ in range(50):
        token_ids = [chosen.randrange(4) for _ in range(chosen.randrange(3, 60))]
        grown = PromptLookup()
        for end in range(1, len(token_ids) + 1):
            drafted = grown.draft_tokens(token_ids[:end], 4)
            assert drafted == PromptLookup().draft_tokens(token_ids[:end], 4)
            assert drafted == _by_looking(token_ids[:end], 4)


def _by_looking(token_ids: list[int], count: int) -> list[int]:
    for length in range(LONGEST, SHORTEST - 1, -1):
        for begin in range(len(token_ids) - length - 1, -1, -1):
            end = begin + length
            if token_ids[begin:end] == token_ids[-length:]:
                return (token_ids[end:] * count)[:count]
    return []
