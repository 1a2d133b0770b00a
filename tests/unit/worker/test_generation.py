"""An attempt at a generation, from its claim to its recorded result, over a fake model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

from common.errors import InvalidRequest
from common.fleet import Fleet, WorkerReport
from common.jobs import events
from common.jobs.event_log import EventLog
from common.jobs.events import PLAIN, AnswerSyntax, Event, EventType
from common.jobs.job import GenerateParams, JobKind, JobState
from common.jobs.prompts import Conversation, Cut, Prompt, TokenIds
from common.jobs.reasoning import MISTRAL, THINK, Reasoning
from common.jobs.sampling import SamplingParams
from common.jobs.store import JobStore
from common.redis.outage import Outage
from common.redis.subscriber import Subscriber
from tests.fake_redis import fake_redis
from tests.fakes import ASSISTANT, FakeRenderer, FakeRunner, RenderedPrompt, fake_engine, scripted
from worker.engine.sequence import BASE_ADAPTER, SequenceOutput
from worker.jobs.active import ActiveJob, ActiveJobs, Outcome
from worker.jobs.generate import Generation
from worker.jobs.observer import Observer
from worker.jobs.publisher import Publisher
from worker.jobs.rendering import rendered
from worker.model.manager import ModelHandle
from worker.model.protocols import LoadedAdapter
from worker.observation.metrics import WorkerMetrics
from worker.observation.traces import Traces

REASONED = "<think>So</think>Yes"  # a token for each byte


class CountingLog(EventLog):
    """Counts the reads."""

    num_reads = 0

    def read(self, job_id: str, first: int = 0, limit: int | None = None) -> list[Event]:
        self.num_reads += 1
        return super().read(job_id, first, limit)


class ExactRenderer(FakeRenderer):
    """Uses tokens unchanged."""

    def render(self, prompt: Prompt, _is_given_up: object = None, _check_length: object = None) -> RenderedPrompt:
        if isinstance(prompt, TokenIds):
            return RenderedPrompt("", list(prompt.ids))
        return super().render(prompt)


class Station:
    """A worker's parts around one engine, which answers "Hi" with "Hello"."""

    def __init__(self, redis: Redis, cleanup: ExitStack) -> None:
        self.store = JobStore(redis, lambda _: None, job_ttl_s=60)
        self.log = CountingLog(redis, Subscriber(redis))
        self.jobs = ActiveJobs()
        metrics = WorkerMetrics(lambda: None)
        outage = Outage(logging.getLogger(__name__))
        publisher = Publisher(self.store, self.jobs, lambda job: job.decide(Outcome.FENCED), metrics, outage)
        self.engine = fake_engine(publisher.deliver, runner=FakeRunner(scripted({"Hi": "Hello", "Why?": REASONED})))
        publisher.start()
        self.engine.start()
        cleanup.callback(publisher.stop)
        cleanup.callback(self.engine.stop)
        self.was_loaded = False
        model_manager: Any = SimpleNamespace(acquire=self._borrow)
        observer = Observer(metrics, Traces(None, "w"))
        self._generation = Generation(self.store, self.log, model_manager, observer, "think")
        Fleet(redis).beat(WorkerReport(id="w", host="h", pid=1, slots=4), ttl_s=60)

    def submit(self, more: Mapping[str, Any] | None = None, **sampling: Any) -> None:
        params = GenerateParams("Hi", SamplingParams(seed=0, temperature=0.0, **sampling), **(more or {})).to_dict()
        self.store.submit("j", JobKind.GENERATE, params, owner="o", max_queue=9)

    def claim(self) -> ActiveJob:
        claim = self.store.claim("j", "w", lease_s=60)
        assert claim is not None
        return ActiveJob(claim, self.store)

    def run(self) -> ActiveJob:
        job = self.claim()
        with self.jobs.running(job):
            self._generation.run(job)
        return job

    @contextmanager
    def _borrow(self, _is_given_up: Any, on_wait: Any) -> Iterator[ModelHandle]:
        if self.was_loaded:
            on_wait()
        grammars: Any = None
        base = LoadedAdapter(BASE_ADAPTER, FakeRenderer(), grammars, 0, lambda: None)
        adapters = SimpleNamespace(acquire=lambda *_: nullcontext(base))
        serving: Any = SimpleNamespace(engine=self.engine, adapters=adapters, device="cpu")
        yield ModelHandle(serving, self.was_loaded)

    def statuses(self) -> list[str]:
        return [event.data["status"] for event in self.log.read("j") if event.type is EventType.STATUS]

    def result(self) -> dict[str, Any]:
        result = self.store.get("j").result
        assert result is not None
        return result


@pytest.fixture
def station() -> Iterator[Station]:
    with ExitStack() as cleanup, fake_redis() as redis:
        yield Station(redis, cleanup)


def test_a_first_attempt_reads_no_log_and_a_later_one_reads_it_once(station: Station) -> None:
    station.submit()
    first = station.claim()
    first.events.announce("one event")
    assert station.log.num_reads == 0
    station.store.release("j", first.attempt)
    station.run()
    assert station.log.num_reads == 1


def test_a_first_attempt_records_the_contents_of_its_log_without_reading_it(station: Station) -> None:
    station.submit(logprobs=0)
    station.run()
    assert station.log.num_reads == 0
    log = station.log.read("j")
    assert [event.seq for event in log] == list(range(len(log)))
    assert events.committed(log)[1] == station.result()["response"] == "Hello"
    assert station.result()["full_response"] == "HiHello"
    assert station.result()["completion_tokens"] == 6
    assert station.result()["first_token_ms"] > 0
    logged = [one for event in log for one in event.data.get("logprobs", ())]
    assert station.result()["logprobs"] == logged
    assert len(logged) == 6
    assert log[-1].data == {"state": "succeeded", "finish_reason": "stop", "device": "cpu"}


def test_without_log_probabilities_the_result_has_none(station: Station) -> None:
    station.submit()
    station.run()
    assert "logprobs" not in station.result()


def test_a_model_that_had_to_be_loaded_is_announced(station: Station) -> None:
    station.submit()
    station.was_loaded = True
    station.run()
    assert station.statuses() == ["Loading SLM model...", "Model loaded on cpu", "Generating response..."]


def test_a_second_attempt_continues_after_the_first_and_repeats_nothing(station: Station) -> None:
    station.submit()
    first = station.claim()
    first.events.announce("Generating response...")
    event = first.events.token(SequenceOutput(first.sequence_id, (72, 101), "He", 3, 2))
    station.store.emit([(first.id, first.attempt, [event])])
    station.store.release(first.id, first.attempt)

    second = station.run()

    assert second.attempt == 2
    assert station.statuses() == ["Generating response..."]
    assert events.committed(station.log.read("j"))[0] == [*b"Hello", 256]
    assert station.result()["response"] == "Hello"
    assert station.result()["completion_tokens"] == 6


@pytest.mark.parametrize("splits", [True, False], ids=["split", "whole"])
def test_reasoning_is_reported_and_counted_if_it_is_split_off(station: Station, splits: bool) -> None:
    prompt = Conversation(({"role": "user", "content": "Why?"},))
    params = GenerateParams(prompt, SamplingParams(seed=0, temperature=0.0), splits_reasoning=splits).to_dict()
    station.store.submit("j", JobKind.GENERATE, params, owner="o", max_queue=9)

    station.run()

    syntax = AnswerSyntax(reasoning=Reasoning(THINK, is_open=False)) if splits else PLAIN
    assert events.answer_syntax(station.log.read("j")) == syntax
    assert station.result()["response"] == REASONED
    assert station.result().get("reasoning_tokens") == (len("<think>So</think>") if splits else None)


@pytest.mark.parametrize(
    ("reported", "counted"),
    [(PLAIN, None), (AnswerSyntax(reasoning=Reasoning(MISTRAL, is_open=False)), 0)],
    ids=["none", "other tags"],
)
def test_a_later_attempt_keeps_to_the_reasoning_that_the_first_has_reported(
    station: Station, reported: AnswerSyntax, counted: int | None
) -> None:
    """The first worker may have been of an earlier version, or have another parser."""
    prompt = Conversation(({"role": "user", "content": "Why?"},))
    params = GenerateParams(prompt, SamplingParams(seed=0, temperature=0.0), splits_reasoning=True).to_dict()
    station.store.submit("j", JobKind.GENERATE, params, owner="o", max_queue=9)
    first = station.claim()
    first.events.announce("Generating response...", reported)
    station.store.release("j", first.attempt)

    station.run()

    assert events.answer_syntax(station.log.read("j")) == reported
    assert station.result().get("reasoning_tokens") == counted


def test_a_refusal_of_the_engine_is_raised_and_nothing_is_recorded(station: Station) -> None:
    station.submit(stop_token_ids=(5000,))
    with pytest.raises(InvalidRequest, match="stop_token_ids"):
        station.run()
    assert station.statuses() == []
    assert station.store.get("j").state is JobState.RUNNING


def test_a_released_job_leaves_the_engine_without_a_result(station: Station) -> None:
    station.submit()
    job = station.claim()
    job.decide(Outcome.RELEASED)
    with station.jobs.running(job):
        station._generation.run(job)
    assert (station.engine.num_running, station.engine.num_waiting) == (0, 0)
    assert station.store.get("j").state is JobState.RUNNING


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        pytest.param(Cut(2), [ord("i"), ASSISTANT], id="the end"),
        pytest.param(Cut(2, keeps_begin=True), [ord("H"), ord("i")], id="the beginning"),
        pytest.param(Cut(9), [ord("H"), ord("i"), ASSISTANT], id="all"),
    ],
)
def test_a_prompt_is_cut_to_the_tokens_that_are_wanted(station: Station, cut: Cut, expected: list[int]) -> None:
    params = GenerateParams("Hi", SamplingParams(seed=0), cut=cut)
    renderer = ExactRenderer()
    assert rendered(params, renderer, station.engine, lambda: False)[1] == expected


def test_the_tokens_of_a_text_get_its_bias(station: Station) -> None:
    station.submit({"text_bias": {"e": -1e9, "l": -1e9}})
    station.run()
    assert not set("el") & set(station.result()["response"])


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        pytest.param({"logprobs": 40, "max_new_tokens": 2000}, "logprobs", id="many tokens"),
        pytest.param({"logprobs": -1, "max_new_tokens": 1000}, "logprobs", id="all tokens of the vocabulary"),
        pytest.param({"prompt_logprobs": 40_000}, "prompt_logprobs", id="prompt"),
        pytest.param(
            {"logprobs": 0, "logprob_token_ids": [1] * 40, "max_new_tokens": 2000},
            "logprob_token_ids",
            id="chosen",
        ),
    ],
)
def test_too_many_log_probabilities_are_refused(station: Station, sampling: dict[str, Any], param: str) -> None:
    station.submit(**sampling)
    with pytest.raises(InvalidRequest, match="65536 log probabilities") as caught:
        station.run()
    assert caught.value.param == param


def test_a_few_of_many_tokens_and_many_of_a_few_are_not_too_many(station: Station) -> None:
    station.submit(logprobs=50, max_new_tokens=5)
    station.run()
    assert [len(one[-1]) for one in station.result()["logprobs"]] == [50] * 5
