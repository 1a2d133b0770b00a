"""The positions of tokens in a text that is not just theirs one after another."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from api.openai.text_offsets import TextOffsets, in_whole_text
from common.jobs.logprobs import ScoredToken, TokenLogprobs

CASES: dict[str, tuple[list[bytes], str, list[int]]] = {
    "plain": ([b"Hi", b" you", b"!"], "Hi you!", [0, 2, 6]),
    "special_before": ([b"<s>", b"Hi", b"!"], "Hi!", [0, 0, 2]),
    "special_within": ([b"Hi", b"<|im_end|>", b"<|im_start|>", b"!"], "Hi!", [0, 2, 2, 2]),
    "special_shown": ([b"Hi", b"<tool_call>", b"{"], "Hi<tool_call>{", [0, 2, 13]),
    "end_token": ([b"Hi", b"</s>", b"</s>"], "Hi", [0, 2, 2]),
    "first_space_dropped": ([b" Hi", b" you"], "Hi you", [0, 2]),
    "spaces_cleaned_up": ([b"Hi", b" .", b" No"], "Hi. No", [0, 2, 3]),
    "character_of_two_tokens": ([b"a", b"\xc3", b"\xa9", b"b"], "aéb", [0, 1, 1, 2]),
    "outside_the_first_plane": (["😀".encode(), b"\xf0\x9f", b"\x98\x80", b"b"], "😀😀b", [0, 1, 1, 2]),
    "one_replacement": ([b"\xe2\x82", b"a", b"b"], "\ufffdab", [0, 0, 2]),
    "a_replacement_per_byte": ([b"\xe2", b"\x82", b"a", b"b"], "\ufffd\ufffdab", [0, 0, 0, 3]),
    "text_was_normalized": (["é".encode(), b"t", b"e"], "e\u0301te", [0, 0, 3]),
    "cut_at_a_stop_string": ([b"Hi", b" the", b"re"], "Hi t", [0, 2, 4]),
}


def scored(tokens: Sequence[bytes]) -> list[object]:
    return [TokenLogprobs(ScoredToken(1, token, -1.0)).to_wire() for token in tokens]


@pytest.mark.parametrize(("tokens", "text", "expected"), CASES.values(), ids=CASES)
def test_each_token_begins_where_its_text_does(tokens: list[bytes], text: str, expected: list[int]) -> None:
    assert in_whole_text(scored(tokens), text).offsets == expected


def test_the_positions_are_the_same_in_pieces() -> None:
    pieces = [([b"Hi"], "Hi"), ([b"<s>", b" the"], " t"), ([b"re"], "he"), ([b"\xc3", b"\xa9"], "reé"), ([b"!"], "!")]
    offsets = TextOffsets()
    found = [offset for tokens, text in pieces for offset in offsets.take(scored(tokens), text).offsets]
    assert found == [0, 2, 2, 6, 8, 8, 9]


def test_a_special_token_after_all_text_so_far_does_not_move_the_next_ones() -> None:
    offsets = TextOffsets()
    offsets.take(scored([b"Hi", b"<|im_end|>"]), "Hi")
    assert offsets.take(scored([b" you", b"!"]), " you!").offsets == [2, 6]
