from __future__ import annotations

from common.sampling import SamplingParams
from tests.fakes import EOS, FakeRunner, Outputs, fake_engine, fake_prompt, scripted
from worker.engine.sequence import FinishReason, Sequence, SequenceOutput


def answer(text: str, params: SamplingParams) -> list[SequenceOutput]:
    """What an engine delivers for a model that would answer with the text and then end."""
    outputs = Outputs()
    engine = fake_engine(outputs, runner=FakeRunner(scripted({"Hi": text})))
    engine.submit(Sequence("a", fake_prompt("Hi"), params))
    while not outputs.finals("a"):
        engine.step()
    return outputs.of("a")


def test_an_answer_does_not_end_before_its_least_length() -> None:
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
