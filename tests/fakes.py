"""Fakes for the model: an engine with them needs no weights and generates the test's planned answers.

    engine = fake_engine(deliver=outputs.put, plan=scripted({"Hi": "Hello!"}))
    engine.submit(Sequence("a", fake_prompt("Hi"), SamplingParams(seed=0)))

A plan is a function from all tokens of a sequence to the next token (or to logits), so a re-prefill does not change the
answer, as with a real model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.jobs.prompts import Conversation, Prompt, RawText, TokenIds
from common.jobs.reasoning import FORMS, Reasoning
from common.jobs.sampling import Grammar
from common.jobs.tools import HERMES
from worker.engine.config import PREFILL_CHUNK
from worker.engine.engine import Deliver, Engine, Sample
from worker.engine.model_runner import PreparedAdapter, Row
from worker.engine.overlap_engine import OverlapEngine
from worker.engine.sampling.host import HostSampler
from worker.engine.sampling.scored_tokens import NO_TOKEN
from worker.engine.sequence import BASE_ADAPTER, SampledToken, SequenceOutput
from worker.engine.sequence import Sequence as Generation
from worker.engine.untrusted_code.datasets import DatasetToCheck, check_dataset

if TYPE_CHECKING:
    from worker.engine.lora import AdapterWeights  # imports torch, which takes longer than the rest of a fake worker

EOS, ASSISTANT = 256, 257  # the end of the answer; the separator between prompt and answer
VOCAB_SIZE = 258
Logits = NDArray[np.float32]
Plan = Callable[[list[int]], "int | Logits"]


class ByteTokenizer:
    """A tokenizer with one token per UTF-8 byte, and two special tokens."""

    eos_token_id = EOS
    special_token_ids = frozenset({EOS, ASSISTANT})
    fallback_bytes: Mapping[int, int] = {}

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: list[int]) -> str:
        return bytes(token for token in token_ids if token < 256).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else {EOS: b"</s>", ASSISTANT: b"<|assistant|>"}[token_id]


class RenderedPrompt(NamedTuple):
    text: str
    token_ids: list[int]


class FakeRenderer:
    """Renders like `prompt.PromptRenderer`: a text is unchanged, and only the last message of a conversation counts."""

    def render(self, prompt: Prompt, _is_given_up: object = None, _check_length: object = None) -> RenderedPrompt:
        match prompt:
            case Conversation(messages):
                text = messages[-1]["content"]
            case RawText(text):
                pass
            case TokenIds(ids):
                text = ByteTokenizer().decode(list(ids))
            case instruction:
                text = instruction
        return RenderedPrompt(text, fake_prompt(text))

    tool_form = HERMES
    marker_id = None

    def end_ids(self, prompt: Prompt) -> tuple[int, ...]:
        return ()

    def in_form(self, grammar: Grammar) -> Grammar:
        return grammar

    def reasoning(self, prompt: Prompt, _render: object, parser: str) -> Reasoning | None:
        form = FORMS.get(parser) if isinstance(prompt, Conversation) else None
        return None if form is None else Reasoning(form, is_open=False)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return [ByteTokenizer().decode([token_id]) for token_id in ids]

    def names(self, ids: Sequence[int]) -> list[str]:
        return [f"<{token_id}>" for token_id in ids]

    def about(self) -> dict[str, Any]:
        return {"tokenizer_class": "ByteTokenizer", "eos_token": "</s>", "chat_template": "x", "vocab_size": 258}

    def check_dataset(self, wanted: DatasetToCheck, _is_given_up: object = None) -> dict[str, Any]:
        return check_dataset(wanted)  # without a tokenizer


def fake_prompt(text: str) -> list[int]:
    """Return the token ids of a prompt for the plans below."""
    return [*ByteTokenizer().encode(text), ASSISTANT]


def echo(history: list[int]) -> int:
    """A plan: answer with the prompt."""
    return scripted({}, default=None)(history)


def scripted(answers: dict[str, str], default: str | None = "?") -> Callable[[list[int]], int]:
    """A plan: answer each prompt with its text, any other prompt with `default` (None: with itself), then end."""

    def plan(history: list[int]) -> int:
        split = history.index(ASSISTANT)
        prompt = bytes(history[:split])
        answer = answers.get(prompt.decode(), prompt.decode() if default is None else default).encode()
        num_answered = len(history) - split - 1
        return answer[num_answered] if num_answered < len(answer) else EOS

    return plan


def saying(word: str) -> Callable[[list[int]], int]:
    """A plan: answer with the word and the prompt."""

    def plan(history: list[int]) -> int:
        prompt = bytes(history[: history.index(ASSISTANT)]).decode()
        return scripted({}, default=f"{word}: {prompt}")(history)

    return plan


def endless(text: str = "abc ") -> Callable[[list[int]], int]:
    """A plan: repeat the text until something else ends the sequence."""

    def plan(history: list[int]) -> int:
        answered = len(history) - history.index(ASSISTANT) - 1
        return text.encode()[answered % len(text.encode())]

    return plan


def hashed(history: list[int]) -> Logits:
    """A plan for sampling: pseudo-random logits that depend only on the history."""
    return np.random.default_rng(hash(tuple(history)) % 2**63).standard_normal(VOCAB_SIZE, np.float32) * 3


class Gate:
    """Lets steps of a `FakeRunner` through one by one, so that a test can act between them."""

    def __init__(self, permits: int = 0) -> None:
        self._permits = permits
        self._num_blocked = 0
        self._is_open = False
        self._changed = threading.Condition()

    def allow(self, steps: int = 1) -> None:
        """Let this many more steps through."""
        with self._changed:
            self._permits += steps
            self._changed.notify_all()

    def open(self) -> None:
        """Let everything through from now on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def wait_until_blocked(self, timeout_s: float = 60.0) -> None:
        """Wait until a step waits at the gate, which means that all earlier steps are done."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._num_blocked and not self._permits, timeout_s), "no step arrived"

    def pass_through(self) -> None:
        """Wait for a permit; called by the runner at the start of each forward."""
        with self._changed:
            self._num_blocked += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._permits or self._is_open, timeout=60), "the gate stayed closed"
            self._permits -= not self._is_open
            self._num_blocked -= 1


@dataclass
class FakePreparedAdapter:
    """An adapter that answers by its own plan, so that a mix-up is seen; without a plan, as the base model."""

    num_bytes: int
    plan: Plan | None = None
    is_closed: bool = False

    def close(self) -> None:
        self.is_closed = True


class FakeRunner:
    """A `ModelRunner` that keeps the tokens of every block and asks its plan for the next token.

    It fails if the engine breaks the interface's rules, e.g. if the blocks of a row lack the tokens before it. If the
    test sets `can_overlap`, it takes tokens from the last samples, as an `OverlapRunner` does.
    """

    vocab_size = VOCAB_SIZE
    can_overlap = False

    def __init__(
        self,
        plan: Plan = echo,
        *,
        max_num_seqs: int = 4,
        context_length: int = 256,
        block_tokens: int = 256,
        num_blocks: int | None = None,
        mixed_chunk: int = 256,
        short_prompt: int = 0,
        max_draft_tokens: int = 0,
        step_delay_s: float = 0.0,
        gate: Gate | None = None,
    ) -> None:
        self.max_num_seqs = max_num_seqs
        self.context_length = context_length
        self.block_tokens = block_tokens
        self.num_blocks = num_blocks or max_num_seqs * -(-context_length // block_tokens)
        self.mixed_chunk = mixed_chunk
        self.short_prompt = short_prompt
        self.max_draft_tokens = max_draft_tokens
        self.batches: list[list[Row]] = []  # every forward's rows
        self.events: list[str] = []  # "launch" for every forward, and "fetch" from a `FakeDeviceSampler`
        self.fail_with: Exception | None = None  # raised by the next forward
        self.is_closed = False
        self._plan = plan
        self._step_delay_s = step_delay_s
        self._gate = gate
        self._plans = {BASE_ADAPTER: plan}  # by adapter
        self._blocks: list[list[_Entry]] = [[] for _ in range(self.num_blocks)]
        self._thread: int | None = None  # the engine's

    @property
    def adapters(self) -> set[str]:
        return set(self._plans)

    def forward(self, rows: list[Row], previous: NDArray[np.int64] | None = None) -> Logits:
        self._check_thread()
        if self._gate is not None:
            self._gate.pass_through()
        time.sleep(self._step_delay_s)
        self.batches.append(rows)
        self.events.append("launch")
        if self.fail_with is not None:
            error, self.fail_with = self.fail_with, None
            raise error
        assert rows, "an empty step"
        assert len(rows) <= self.max_num_seqs, "too many rows"
        assert len({row.blocks[row.start // self.block_tokens] for row in rows}) == len(rows), "two rows in one block"
        logits = [one for row in rows for one in self._compute(_with_token(row, previous))]
        return np.stack(logits) if logits else np.empty((0, self.vocab_size), np.float32)

    def copy_block(self, source: int, target: int, num_tokens: int) -> None:
        assert num_tokens <= len(self._blocks[source]), "more is copied than exists"
        self._blocks[target] = self._blocks[source][:num_tokens]

    def prepare_adapter(self, weights: AdapterWeights) -> FakePreparedAdapter:
        return FakePreparedAdapter(weights.num_bytes)

    def add_adapter(self, adapter_id: str, prepared: PreparedAdapter) -> None:
        assert isinstance(prepared, FakePreparedAdapter), "another runner's"
        assert not prepared.is_closed, "it was closed"
        if adapter_id in self.adapters:
            raise ValueError(f"There is an adapter {adapter_id!r} already.")
        self._check_thread()
        self._plans[adapter_id] = prepared.plan or self._plan

    def remove_adapter(self, adapter_id: str) -> None:
        if adapter_id == BASE_ADAPTER or adapter_id not in self.adapters:
            raise ValueError(f"There is no adapter {adapter_id!r}.")
        self._check_thread()
        del self._plans[adapter_id]

    def close(self) -> None:
        self.is_closed = True

    def _compute(self, row: Row) -> list[Logits]:
        assert row.adapter in self.adapters, "the adapter was not added"
        assert row.num_draft_tokens < len(row.token_ids), "an empty row"
        assert row.num_draft_tokens <= self.max_draft_tokens, "too many draft tokens"
        for position, token_id in enumerate(row.token_ids, row.start):
            block = self._blocks[row.blocks[position // self.block_tokens]]
            assert position % self.block_tokens <= len(block), "the row does not continue its block"
            block[position % self.block_tokens :] = [_Entry(token_id, row.adapter)]
        entries = [entry for block in row.blocks for entry in self._blocks[block]][: row.start + len(row.token_ids)]
        assert {entry.adapter for entry in entries} == {row.adapter}, "the row reads another adapter's keys and values"
        history = [entry.token_id for entry in entries]
        assert len(history) == row.start + len(row.token_ids), "the tokens before the row are missing"
        assert len(history) <= self.context_length, "the context is too short"
        plan = self._plans[row.adapter]
        return [_logits(plan(history[: len(history) - num])) for num in reversed(range(row.num_logits))]

    def _check_thread(self) -> None:
        """Only one thread may compute and change adapters."""
        self._thread = self._thread or threading.get_ident()
        assert self._thread == threading.get_ident(), "another thread than before"


class _Entry(NamedTuple):
    """The keys and values of a token."""

    token_id: int
    adapter: str


def _with_token(row: Row, previous: NDArray[np.int64] | None) -> Row:
    """Return the row with the token from the last samples, if it takes one."""
    if row.source is None:
        return row
    assert len(row.token_ids) == 1, "a prompt's tokens are known"
    assert previous is not None, "the row's token is nowhere"
    return row._replace(token_ids=(int(previous[row.source]),))


class FakeDeviceSampler(HostSampler):
    """A `HostSampler` with the interface of `Sampler.start`. It records each fetch, and may fail at that moment."""

    def __init__(self, events: list[str]) -> None:
        self.fail_with: Exception | None = None  # raised by the next fetch
        self._events = events

    def start(self, logits: Logits, sequences: list[Generation], nums_drafts: list[int] | None = None) -> _FakeSamples:
        return _FakeSamples(self.sample(logits, sequences, nums_drafts), self)

    def note_fetch(self) -> None:
        self._events.append("fetch")
        if self.fail_with is not None:
            error, self.fail_with = self.fail_with, None
            raise error


class _FakeSamples:
    def __init__(self, samples: list[Sample], sampler: FakeDeviceSampler) -> None:
        self.tokens = np.array([one.token_id if isinstance(one, SampledToken) else NO_TOKEN for one in samples])
        self._samples = samples
        self._sampler = sampler

    def fetch(self) -> list[Sample]:
        self._sampler.note_fetch()
        return self._samples


def _logits(planned: int | Logits) -> Logits:
    if isinstance(planned, np.ndarray):
        return planned
    logits = np.full(VOCAB_SIZE, -100.0, np.float32)
    logits[planned] = 100.0
    return logits


def fake_engine(
    deliver: Deliver,
    plan: Plan = echo,
    *,
    runner: FakeRunner | None = None,
    on_fatal: Callable[[Exception], None] | None = None,
    prefill_chunk: int = PREFILL_CHUNK,
    sampler: HostSampler | None = None,
) -> Engine:
    """Return a real engine with a `FakeRunner`, not started yet."""
    tokenizer = ByteTokenizer()
    runner = runner or FakeRunner(plan)
    return (OverlapEngine if runner.can_overlap else Engine)(
        runner,
        sampler or (FakeDeviceSampler(runner.events) if runner.can_overlap else HostSampler()),
        decoder=tokenizer,
        eos_token_ids=frozenset({tokenizer.eos_token_id}),
        deliver=deliver,
        on_fatal=on_fatal or _raise,
        prefill_chunk=prefill_chunk,
    )


def _raise(error: Exception) -> None:
    raise error


class Outputs:
    """A `deliver` callback that keeps all outputs and lets a test wait for sequences to end."""

    def __init__(self) -> None:
        self.deliveries: list[list[SequenceOutput]] = []
        self._ended: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, outputs: list[SequenceOutput]) -> None:
        with self._changed:
            self.deliveries.append(outputs)
            self._ended.update(output.sequence_id for output in outputs if output.finish_reason is not None)
            self._changed.notify_all()

    def of(self, sequence_id: str) -> list[SequenceOutput]:
        """Return the outputs of one sequence, in order."""
        return [output for outputs in self.deliveries for output in outputs if output.sequence_id == sequence_id]

    def text(self, sequence_id: str) -> str:
        return "".join(output.text for output in self.of(sequence_id))

    def token_ids(self, sequence_id: str) -> list[int]:
        return [token_id for output in self.of(sequence_id) for token_id in output.token_ids]

    def finals(self, sequence_id: str) -> list[SequenceOutput]:
        return [output for output in self.of(sequence_id) if output.finish_reason is not None]

    def wait_for(self, *sequence_ids: str, timeout_s: float = 60.0) -> None:
        """Wait until each of the sequences has its final output."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._ended.issuperset(sequence_ids), timeout_s)
            assert done, "some sequences did not end"
