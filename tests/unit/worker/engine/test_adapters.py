"""Adapters in an engine: each sequence is computed, decoded and ended with its own."""

from __future__ import annotations

import threading

import pytest

from common.errors import AdapterNotFound, Conflict
from common.jobs.sampling import SamplingParams
from tests.fakes import (
    EOS,
    ByteTokenizer,
    FakePreparedAdapter,
    FakeRunner,
    Gate,
    Outputs,
    Plan,
    endless,
    fake_prompt,
    saying,
    scripted,
)
from tests.unit.worker.engine.conftest import StartEngine
from worker.engine.engine import Engine
from worker.engine.model_runner import DeviceLostError, OutOfMemoryError
from worker.engine.output.detokenizer import TokenDecoder
from worker.engine.sequence import BASE_ADAPTER, FinishReason, Sequence

pytestmark = pytest.mark.usefixtures("each_engine")

PROMPT = "the same long prompt for all of them"


class UpperCase(ByteTokenizer):
    """Another tokenizer."""

    def decode(self, token_ids: list[int]) -> str:
        return super().decode(token_ids).upper()


def sequence(name: str, adapter: str = BASE_ADAPTER, prompt: str = PROMPT, **params: int) -> Sequence:
    return Sequence(name, fake_prompt(prompt), SamplingParams(seed=0, temperature=0.0, **params), adapter)  # type: ignore[arg-type]


def add(
    engine: Engine, adapter: str, plan: Plan, decoder: TokenDecoder | None = None, ends: frozenset[int] | None = None
) -> FakePreparedAdapter:
    prepared = FakePreparedAdapter(1, plan)
    engine.add_adapter(
        adapter, prepared, decoder=decoder or ByteTokenizer(), eos_token_ids=frozenset({EOS}) if ends is None else ends
    )
    return prepared


def test_rows_of_several_adapters_and_the_base_run_in_one_step_without_a_mix_up(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    runner = FakeRunner(saying("base"), block_tokens=8, num_blocks=256, max_num_seqs=8)
    engine = start_engine(runner)
    names = [BASE_ADAPTER, "one", "two", "three"]
    for name in names[1:]:
        add(engine, name, saying(name))
    for turn in range(2):  # the second time with cached prompts
        for name in names:
            engine.submit(sequence(f"{name}-{turn}", name))
        outputs.wait_for(*(f"{name}-{turn}" for name in names))

    for name in names:
        assert [outputs.text(f"{name}-{turn}") for turn in range(2)] == [f"{name}: {PROMPT}"] * 2
    assert any(len({row.adapter for row in rows}) == len(names) for rows in runner.batches)


def test_an_adapters_own_tokenizer_and_end_tokens_are_for_its_sequences_only(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    engine = start_engine(FakeRunner(scripted({PROMPT: "abc.def"})))
    add(engine, "loud", scripted({PROMPT: "abc.def"}), UpperCase(), frozenset({ord(".")}))
    for name, adapter in (("a", BASE_ADAPTER), ("b", "loud"), ("c", BASE_ADAPTER)):
        engine.submit(sequence(name, adapter))
    outputs.wait_for("a", "b", "c")

    assert [outputs.text(name) for name in "abc"] == ["abc.def", "ABC", "abc.def"]


def test_an_adapters_end_token_is_forbidden_before_the_minimum_length(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    engine = start_engine(FakeRunner())
    add(engine, "own", lambda _: ord("."), ends=frozenset({ord(".")}))
    engine.submit(sequence("a", "own", min_new_tokens=3, max_new_tokens=5))
    outputs.wait_for("a")

    tokens = outputs.token_ids("a")
    assert (len(tokens), tokens.index(ord("."))) == (4, 3)


def test_an_adapter_is_known_from_its_addition_to_its_removal(start_engine: StartEngine, outputs: Outputs) -> None:
    engine = start_engine()
    with pytest.raises(AdapterNotFound, match="'mine'"):
        engine.check(sequence("a", "mine"))
    add(engine, "mine", saying("mine"))
    engine.submit(sequence("a", "mine"))
    outputs.wait_for("a")
    engine.remove_adapter("mine")
    engine.release([])  # a later request: the removal is done

    with pytest.raises(AdapterNotFound, match="'mine'"):
        engine.submit(sequence("b", "mine"))


def test_cached_prompts_of_a_removed_adapter_serve_it_again_and_nobody_else(
    start_engine: StartEngine, outputs: Outputs
) -> None:
    runner = FakeRunner(saying("base"), block_tokens=8, num_blocks=256)
    engine = start_engine(runner)
    for turn in range(2):
        add(engine, "mine", saying("mine"))
        engine.submit(sequence(f"mine-{turn}", "mine"))
        outputs.wait_for(f"mine-{turn}")
        engine.remove_adapter("mine")
    engine.submit(sequence("base"))
    outputs.wait_for("base")

    assert outputs.text("base") == f"base: {PROMPT}"
    assert outputs.text("mine-0") == outputs.text("mine-1") == f"mine: {PROMPT}"
    starts = [rows[0].start for rows in runner.batches if len(rows[0].token_ids) > 1]
    assert starts[0] == 0 < starts[1]
    assert starts[2] == 0, "the base computes its own keys and values"


def test_nothing_is_added_or_removed_during_a_step(start_engine: StartEngine, outputs: Outputs) -> None:
    gate = Gate()
    runner = FakeRunner(endless(), gate=gate)
    engine = start_engine(runner)
    engine.submit(sequence("a", max_new_tokens=50))
    gate.wait_until_blocked()
    adding = threading.Thread(target=add, args=(engine, "mine", saying("mine")))
    adding.start()

    adding.join(0.05)
    assert adding.is_alive()
    assert runner.adapters == {BASE_ADAPTER}
    gate.open()
    adding.join(60)
    assert runner.adapters == {BASE_ADAPTER, "mine"}
    outputs.wait_for("a")


def test_an_adapter_that_the_runner_cannot_take_disturbs_no_sequence(
    start_engine: StartEngine, outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OutOfMemoryError("full")

    monkeypatch.setattr(FakeRunner, "add_adapter", refuse)
    engine = start_engine(FakeRunner(endless(), step_delay_s=0.001))
    engine.submit(sequence("a", max_new_tokens=100))

    with pytest.raises(OutOfMemoryError, match="full"):
        add(engine, "mine", saying("mine"))
    outputs.wait_for("a")

    assert outputs.finals("a")[0].finish_reason is FinishReason.LENGTH
    with pytest.raises(AdapterNotFound):
        engine.check(sequence("b", "mine"))


def test_a_lost_device_is_fatal_also_while_an_adapter_is_added(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise DeviceLostError("gone")

    monkeypatch.setattr(FakeRunner, "add_adapter", lose)
    fatal: list[Exception] = []
    engine = start_engine(on_fatal=fatal.append)

    with pytest.raises(Conflict):
        add(engine, "mine", saying("mine"))

    assert [str(error) for error in fatal] == ["gone"]


def test_a_stopped_engine_takes_no_adapter(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.stop()

    with pytest.raises(Conflict, match="being unloaded"):
        add(engine, "mine", saying("mine"))
