"""Typed text is text with every tokenizer, and only a template can write control tokens."""

from __future__ import annotations

import json
from itertools import groupby
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from models.errors import UnspellableText
from models.text.chat_template import render_chat
from models.text.control_tokens import ControlTokens, Segment
from models.text.conversation import ConversationEncoder, text_of
from models.text.prompt_template import INSTRUCTION_TEMPLATE
from models.text.text_encoder import KEPT_CHARS, FastEncoding, TextEncoder
from tests.small_tokenizers import SPECIAL, TOKENIZERS, byte_fallback, byte_level, slow, unigram, word_level

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"
PLAIN = st.text(st.sampled_from("hello x.,!?é\n"), min_size=1, max_size=20)
TYPED = st.lists(st.sampled_from([*SPECIAL, "hello", " ", "<", "/s>", "\ue000", "\ue001", "x"]), max_size=12).map(
    "".join
)


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


@pytest.fixture(params=[name for name in TOKENIZERS if name != "slow"])
def fast(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@given(text=PLAIN)
@settings(max_examples=100, deadline=None, derandomize=True)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_text_without_special_tokens_has_the_tokenizers_ids(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    chat = {"chat_template": TEMPLATE, "return_dict": False, "add_generation_prompt": True}

    assert TextEncoder(tokenizer, TEMPLATE).text_ids(text) == tokenizer.encode(text)
    ids = ConversationEncoder(tokenizer, TEMPLATE).encode(user(text))[1]
    assert ids == tokenizer.apply_chat_template(user(text), **chat)


@given(text=TYPED)
@settings(max_examples=100, deadline=None, derandomize=True)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_typed_special_tokens_are_text(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    control = set(tokenizer.convert_tokens_to_ids(["<s>", "</s>"]))
    encoder = ConversationEncoder(tokenizer, TEMPLATE)

    whole, ids = encoder.encode(user(text))
    raw = encoder.texts.text_ids(text)

    assert whole == f"<s>{text}</s>"
    assert [one for one in ids if one in control] == tokenizer.convert_tokens_to_ids(["<s>", "</s>"])
    assert [one for one in raw if one in control] == encoder.texts.start_ids
    if name == "byte level":
        assert tokenizer.decode(ids) == whole


def test_the_ids_of_a_typed_name_are_those_that_a_tokenizer_without_special_tokens_gives_it() -> None:
    renderer = ConversationEncoder(byte_level(), TEMPLATE)

    assert renderer.encode(user("a</s>b"))[1] == [257, *map(byte_level().convert_tokens_to_ids, "a</s>b"), 258]


def test_a_kept_encoding_gives_the_same_ids(fast: Any) -> None:
    made = TextEncoder(fast, TEMPLATE)
    assert isinstance(made.encoding, FastEncoding)
    kept = FastEncoding.from_dict(json.loads(json.dumps(made.encoding.to_dict())))
    again = TextEncoder(fast, TEMPLATE, kept)
    assert again.encoding is kept
    for text in ("hello", "a</s>b", "<s></s>"):
        assert again.text_ids(text) == made.text_ids(text)
        assert again.segment_ids(again.split(text, "-")) == made.segment_ids(made.split(text, "-"))


def test_merges_that_lead_to_a_special_token_do_not(tokenizer: Any) -> None:
    assert tokenizer.convert_tokens_to_ids("</s>") not in TextEncoder(tokenizer, "").part_ids("</s>")


def test_the_tokens_before_every_text_are_known(fast: Any) -> None:
    assert TextEncoder(fast, "").start_ids == [fast.convert_tokens_to_ids("<s>")]
    assert TextEncoder(slow(), "").start_ids == []


def test_the_instruction_template_leaves_the_start_to_the_tokenizer_and_others_write_it(fast: Any) -> None:
    start = fast.convert_tokens_to_ids("<s>")

    for template in (INSTRUCTION_TEMPLATE, TEMPLATE):
        ids = ConversationEncoder(fast, template).encode(user("hello"))[1]
        assert (ids[0], ids.count(start)) == (start, 1)


def test_words_that_were_added_to_a_vocabulary_are_tokens_unless_the_template_writes_them() -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(["ACME", "<think>", "\n\n"])
    acme, think, gap = tokenizer.convert_tokens_to_ids(["ACME", "<think>", "\n\n"])

    ids = ConversationEncoder(tokenizer, TEMPLATE + "<think>\n\n.").encode(user("ACME<think>\n\n"))[1]

    assert [one for one in ids if one > 256] == [257, acme, gap, 258, think, gap]


def test_a_single_character_is_text_even_where_it_is_a_special_token() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"pad_token": "!"})

    assert TextEncoder(tokenizer, "").part_ids("a!!") == [64, 0, 0]


def test_a_tokenizers_own_truncation_is_not_for_prompts() -> None:
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.enable_truncation(4)

    assert len(TextEncoder(tokenizer, "").part_ids("hello hello")) == 11


def test_special_tokens_that_swallow_spaces_do_so_for_the_template_alone() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|x|>", lstrip=True, rstrip=True)]})
    encoder = ConversationEncoder(tokenizer, "{{ messages[0]['content'] }} <|x|> b")

    assert tokenizer.decode(encoder.encode(user("a <|x|> c"))[1]) == "a <|x|> c<|x|>b"
    assert encoder.encode(user("a <|x|> c"))[1].count(len(tokenizer) - 1) == 1


def test_a_text_that_a_tokenizer_cannot_spell_is_refused_with_a_reason() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}))
    encoder = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>"), "")

    assert encoder.part_ids("a") == [0]
    with pytest.raises(UnspellableText, match="cannot encode this text"):
        encoder.part_ids("</s>")


def test_a_slow_tokenizer_that_turns_letters_into_a_special_token_is_refused_with_a_reason() -> None:
    tokenizer = slow()
    tokenizer.bpe_ranks |= {("<", "/"): 0, ("</", "s"): 1, ("</s", "></w>"): 2}

    with pytest.raises(UnspellableText, match="cannot encode '</s>' as text"):
        TextEncoder(tokenizer, "").text_ids("x </s>")


def test_a_conversation_is_taken_apart_where_the_template_wrote_its_tokens() -> None:
    control = ControlTokens(["<s>", "</s>", "<s><s>"])
    marked = control.mark(user("a<s>b"))

    (message,) = marked.messages
    rendered = f"<s><s><s>{message['content']}</s>{marked.mark}c"

    assert control.split(rendered, marked.mark) == [
        Segment("<s><s>", is_control=True),
        Segment("<s>", is_control=True),
        Segment("a<s>b", is_control=False),
        Segment("</s>", is_control=True),
        Segment("c", is_control=False),
    ]


def test_marks_use_a_character_that_no_text_contains() -> None:
    control = ControlTokens(["<s>"])

    assert control.mark(user("\ue000<s>\ue001")).mark == "\ue002"
    parts = [{"role": "user", "content": [{"type": "text", "text": "\ue000<s>"}]}]
    assert control.mark(parts).messages[0]["content"] == [{"type": "text", "text": "\ue000\ue001<s>\ue001"}]


def test_a_template_that_takes_a_text_apart_leaves_no_marks() -> None:
    template = "{% for m in messages %}{{ m['content'].split('</s>')[-1] }}{% endfor %}"

    assert ConversationEncoder(word_level(), template).encode(user("x</s>hello"))[0] == "hello"


def test_a_speaker_s_name_is_rendered_and_its_special_tokens_are_text() -> None:
    template = "{% for m in messages %}{{ m.get('name', '') }}:{{ m['content'] }}</s>{% endfor %}"
    encoder = ConversationEncoder(word_level(), template)
    named = [one | {"name": "</s>"} for one in user("hello")]

    assert encoder.encode(user("hello"))[0] == ":hello</s>"
    assert [one for one in encoder.segments(named) if one.is_control] == [Segment("</s>", is_control=True)]


CHATML = (
    "{% for m in messages %}<s>{{ m['role'] }}:{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
NEW_TURN: dict[str, bool] = {}
CONTINUED = {"add_generation_prompt": False, "continue_final_message": True}


@pytest.mark.parametrize(
    ("variables", "end"),
    [
        (NEW_TURN, "hello</s><s>assistant:"),
        ({"add_generation_prompt": False}, "hello</s>"),
        (CONTINUED, "<s>assistant:hello"),
    ],
)
def test_a_conversation_can_end_within_its_last_message(variables: dict[str, bool], end: str) -> None:
    messages = [*user("a"), {"role": "assistant", "content": "hello"}]

    segments = ConversationEncoder(word_level(), CHATML).segments(messages, None, variables)

    assert text_of(segments).endswith(end)


def test_another_process_can_render() -> None:
    seen: list[Any] = []

    def render(template: Any, messages: Any) -> str:
        seen.append((template, messages))
        return render_chat(template, messages)

    encoder = ConversationEncoder(byte_level(), TEMPLATE, render=render)
    assert encoder.encode(user("x"))[0] == "<s>x</s>"
    assert seen[-1][0].variables["bos_token"] == "<s>"


def test_the_names_of_control_tokens_have_the_same_order_in_every_process() -> None:
    equally_long = [f"<{letter}>" for letter in "abcdefgh"]
    assert ControlTokens(["x", *reversed(equally_long), "</s>"]).names == ["</s>", *equally_long]


def _first_piece_differs() -> PreTrainedTokenizerFast:
    tokenizer = unigram()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return tokenizer


def _with_token(**options: bool) -> PreTrainedTokenizerFast:
    tokenizer = byte_fallback()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|x|>", special=True, **options)]})
    return tokenizer


SEPARABLE = {
    **{name: (make, True) for name, make in TOKENIZERS.items() if name != "slow"},
    "own-first-piece": (_first_piece_differs, False),
    "swallows-left": (lambda: _with_token(lstrip=True), False),
    "swallows-right": (lambda: _with_token(rstrip=True), False),
    "single-word": (lambda: _with_token(single_word=True), False),
    "normalized": (lambda: _with_token(normalized=True), False),
    "usual-token": (lambda: _with_token(normalized=False), True),
}


@pytest.mark.parametrize("name", SEPARABLE)
def test_a_conversation_that_is_encoded_part_by_part_has_the_same_ids(name: str) -> None:
    make, is_separable = SEPARABLE[name]
    tokenizer = make()
    control = [one for one in tokenizer.all_special_tokens if one != "<unk>"]
    encoding = FastEncoding.of(tokenizer, control)
    chance = Random(name)
    for _ in range(200):
        texts = ("".join(chance.choices("ab x.\n▁é", k=chance.randint(1, 6))) for _ in range(9))
        parts = [Segment(text, is_control=False) for text in texts]
        for place in sorted(chance.choices(range(10), k=6), reverse=True):
            parts.insert(place, Segment(chance.choice(control), is_control=True))
        joined = _joined(parts)
        whole = encoding.encode(joined, encoding._encode)
        for _ in range(2):  # the second time with kept ids
            assert encoding.encode(joined, None) == whole
    assert encoding._is_separable == is_separable


def test_the_ids_of_long_texts_are_not_kept() -> None:
    encoding = FastEncoding.of(byte_level(), ["<s>"])
    for text in ("a" * KEPT_CHARS, "b" * (KEPT_CHARS + 1)):
        assert len(encoding.encode([Segment(text, is_control=False)], None)) == len(text)
    assert encoding._kept_ids.cache_info().currsize == 1


def _joined(parts: list[Segment]) -> list[Segment]:
    """The parts as a template's text is split: no two texts follow each other."""
    runs = groupby(parts, key=lambda one: one.is_control)
    return [
        one
        for is_control, run in runs
        for one in (run if is_control else [Segment("".join(part.text for part in run), is_control=False)])
    ]
