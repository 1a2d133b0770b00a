from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import InvalidRequest
from common.jobs.reasoning import THINK, Reasoning
from common.jobs.sampling import SamplingParams
from common.jobs.tools import HERMES, LLAMA, ToolForm
from tests.fakes import EOS, FakeRunner, Outputs, fake_engine, fake_prompt, scripted
from tests.unit.worker.engine.scripted_constraint import ScriptedConstraint
from worker.engine.grammar.constraint import TokenConstraint
from worker.engine.output.call_marker import CallMarker
from worker.engine.sequence import FinishReason, Sequence, SequenceOutput

pytestmark = pytest.mark.usefixtures("each_engine")

GREEDY = SamplingParams(seed=0, temperature=0.0)


def answer(
    text: str,
    params: SamplingParams,
    constraint: TokenConstraint | None = None,
    committed: bytes = b"",
    calls: CallMarker | None = None,
    reasoning: Reasoning | None = None,
) -> list[SequenceOutput]:
    """Return an engine's outputs for a model that answers with the text and then ends."""
    outputs = Outputs()
    engine = fake_engine(outputs, runner=FakeRunner(scripted({"Hi": text})))
    sequence = Sequence("a", fake_prompt("Hi"), params, constraint=constraint, calls=calls, reasoning=reasoning)
    sequence.output_ids, sequence.emitted_text = list(committed), committed.decode()
    engine.submit(sequence)
    while not outputs.finals("a"):
        engine.step()
    return outputs.of("a")


def test_an_answer_does_not_end_before_its_minimum_length() -> None:
    params = SamplingParams(seed=0, temperature=0.0, min_new_tokens=4, max_new_tokens=20, stop=("H", "lo"))

    outputs = answer("Hello lo", params)

    assert "".join(output.text for output in outputs) == "Hello "
    assert outputs[-1].finish_reason is FinishReason.STOP


def test_end_tokens_can_be_ignored_and_show_no_text() -> None:
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=4, ignore_eos=True)

    outputs = answer("ab", params)

    assert "".join(output.text for output in outputs) == "ab"
    assert [token for output in outputs for token in output.token_ids] == [*b"ab", EOS, EOS]
    assert outputs[-1].finish_reason is FinishReason.LENGTH


def test_a_stop_token_ends_the_answer_without_its_text() -> None:
    params = SamplingParams(seed=0, temperature=0.0, stop_token_ids=(ord("l"),))

    outputs = answer("Hello", params)

    assert "".join(output.text for output in outputs) == "He"
    assert outputs[-1].finish_reason is FinishReason.STOP


# Constraints


def test_a_constraint_holds_from_the_first_token_and_ends_a_complete_answer() -> None:
    constraint = ScriptedConstraint({ord("J"), ord("K")}, {ord("e"), ord("f")}, {ord("l")})

    outputs = answer("Hello", GREEDY, constraint)

    assert "".join(output.text for output in outputs) == "Jel"
    assert constraint.accepted == [*b"Jel"]
    assert [output.finish_reason for output in outputs] == [None, None, FinishReason.STOP]


def test_an_answer_that_is_complete_at_its_maximum_length_was_not_cut() -> None:
    outputs = answer("Hello", replace(GREEDY, max_new_tokens=2), ScriptedConstraint({ord("H")}, {ord("e")}))

    assert outputs[-1].finish_reason is FinishReason.STOP


def test_an_answer_that_a_constraint_could_continue_is_cut_at_its_maximum_length() -> None:
    outputs = answer("Hello", replace(GREEDY, max_new_tokens=1), ScriptedConstraint({ord("H")}, {ord("e")}))

    assert outputs[-1].finish_reason is FinishReason.LENGTH


def test_an_end_token_ends_the_answer_if_the_constraint_allows_it() -> None:
    constraint = ScriptedConstraint({ord("H")}, {ord("e"), EOS}, {ord("l")})

    outputs = answer("H", GREEDY, constraint)

    assert "".join(output.text for output in outputs) == "H"
    assert constraint.accepted == [*b"H"]
    assert outputs[-1].finish_reason is FinishReason.STOP


@pytest.mark.parametrize("committed", [b"H", b"Hel"])
def test_a_constraint_reads_what_an_earlier_attempt_committed(committed: bytes) -> None:
    constraint = ScriptedConstraint({ord("H")}, {ord("e")}, {ord("l")})

    outputs = answer("Hello", GREEDY, constraint, committed)

    assert committed.decode() + "".join(output.text for output in outputs) == "Hel"
    assert constraint.accepted == [*b"Hel"]
    assert outputs[-1].finish_reason is FinishReason.STOP


def test_committed_tokens_that_do_not_fit_the_constraint_end_the_answer() -> None:
    outputs = answer("Hello", GREEDY, ScriptedConstraint({ord("J")}, {ord("e")}), b"H")

    assert [(output.finish_reason, output.text) for output in outputs] == [(FinishReason.ERROR, "")]
    assert isinstance(outputs[0].error, InvalidRequest)


def test_a_constraint_that_cannot_continue_only_ends_its_sequence() -> None:
    outputs = Outputs()
    engine = fake_engine(outputs, runner=FakeRunner(scripted({"Hi": "Hello"})))
    engine.submit(Sequence("a", fake_prompt("Hi"), GREEDY, constraint=ScriptedConstraint({ord("H")}, set())))
    engine.submit(Sequence("b", fake_prompt("Hi"), GREEDY))
    while not outputs.finals("b"):
        engine.step()

    assert outputs.text("a") == "H"
    assert isinstance(outputs.finals("a")[0].error, InvalidRequest)
    assert outputs.text("b") == "Hello"
    assert engine.kv_usage == 0.0


CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("form", "text", "shown"),
    [
        (HERMES, f"Hi {CALL}", f"Hi {CALL}"),
        (HERMES, "Hi <tool_call {", "Hi <tool_call "),
        (HERMES, f"{{{CALL}", ""),
        (LLAMA, '{"name": "f", "parameters": {}}', ""),
        (LLAMA, '. {"name": "f"}', ". "),
    ],
)
def test_a_stop_string_ends_text_but_no_call(form: ToolForm, text: str, shown: str) -> None:
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=100, stop=("{", "}}"))

    outputs = answer(text, params, calls=CallMarker(form, None))

    assert "".join(output.text for output in outputs) == shown


def test_a_call_in_the_reasoning_does_not_keep_stop_strings_from_ending_the_text() -> None:
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=200, stop=("!",))
    text = f"<think>{CALL}</think>Hi! {CALL}"

    outputs = answer(text, params, calls=CallMarker(HERMES, None), reasoning=Reasoning(THINK, is_open=False))

    assert "".join(output.text for output in outputs) == f"<think>{CALL}</think>Hi"


def test_in_a_call_no_text_is_held_back_for_a_stop_string() -> None:
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=100, stop=("</tool_call>x",))

    outputs = answer(CALL, params, calls=CallMarker(HERMES, None))

    assert [output.text for output in outputs if output.text][-len("</tool_call>") :] == [*"</tool_call>"]


@pytest.mark.parametrize("num_committed", range(0, len(CALL), 7))
def test_an_answer_that_is_continued_in_a_call_ends_in_the_same_place(num_committed: int) -> None:
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=100, stop=("}}",))
    committed = CALL.encode()[:num_committed]

    outputs = answer(CALL, params, committed=committed, calls=CallMarker(HERMES, None))

    assert committed.decode() + "".join(output.text for output in outputs) == CALL
