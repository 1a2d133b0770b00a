"""The batches of an embedder: fair between owners, bounded, and without inputs that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from worker.engine.embedding.engine import EmbeddingEngine, Work

PATIENCE_S = 60
BATCH_TOKENS = 12


class Lengths:
    """Computes the length of each input. The first batch waits for `go`, so that a test can submit more meanwhile."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.began, self.go = threading.Event(), threading.Event()

    def vectors(self, batch: Sequence[Sequence[int]]) -> Tensor:
        self.batches.append([list(one) for one in batch])
        self.began.set()
        assert self.go.wait(PATIENCE_S)
        if any(13 in one for one in batch):
            raise ValueError("13")
        return torch.tensor([[float(len(one))] for one in batch])

    @property
    def later(self) -> list[list[list[int]]]:
        return self.batches[1:]


class Wait:
    """A job's work, and its end."""

    def __init__(self, owner: str, *inputs: list[int]) -> None:
        self.ended = threading.Event()
        self.work = Work(owner, inputs, self.ended.set)

    def lengths(self) -> list[float]:
        assert self.ended.wait(PATIENCE_S)
        return [float(one) for one in self.work.vectors[:, 0]]


@pytest.fixture
def encoder() -> Lengths:
    return Lengths()


@contextmanager
def running(encoder: Lengths) -> Iterator[EmbeddingEngine]:
    engine = EmbeddingEngine(encoder, batch_tokens=BATCH_TOKENS)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def engine(encoder: Lengths) -> Iterator[EmbeddingEngine]:
    """An engine that computes a first input until `encoder.go` is set."""
    with running(encoder) as engine:
        engine.submit(Wait("first", [0]).work)
        assert encoder.began.wait(PATIENCE_S)
        yield engine
        encoder.go.set()


def test_vectors_are_in_the_order_of_the_inputs(engine: EmbeddingEngine, encoder: Lengths) -> None:
    job = Wait("ann", [1] * 5, [1], [1] * 3)
    engine.submit(job.work)
    encoder.go.set()
    assert job.lengths() == [5, 1, 3]


def test_inputs_of_a_job_are_batched_by_length_up_to_the_limit_with_padding(
    engine: EmbeddingEngine, encoder: Lengths
) -> None:
    job = Wait("ann", *([1] * length for length in (5, 1, 4, 1, 20, 2)))
    engine.submit(job.work)
    encoder.go.set()
    assert job.lengths() == [5, 1, 4, 1, 20, 2]
    assert [[len(one) for one in batch] for batch in encoder.later] == [[1, 1, 2], [4, 5], [20]]


def test_owners_take_turns(engine: EmbeddingEngine, encoder: Lengths) -> None:
    many, one = Wait("ann", *[[1, 1, 1]] * 40), Wait("bob", [2, 2, 2])
    engine.submit(many.work)
    engine.submit(Wait("ann", [3, 3, 3]).work)
    engine.submit(one.work)
    assert engine.num_waiting == 42
    encoder.go.set()
    assert one.lengths() == [3]
    assert [2, 2, 2] in encoder.later[0]
    assert many.lengths() == [3.0] * 40


def test_cancelled_work_is_left_out(engine: EmbeddingEngine, encoder: Lengths) -> None:
    gone, stays = Wait("ann", [1], [2]), Wait("ann", [3])
    engine.submit(gone.work)
    engine.submit(stays.work)
    gone.work.cancel()
    encoder.go.set()
    assert stays.lengths() == [1]
    assert encoder.later == [[[3]]]
    assert not gone.ended.is_set()


def test_an_error_fails_the_jobs_of_its_batch_and_no_other(engine: EmbeddingEngine, encoder: Lengths) -> None:
    broken, fine = Wait("ann", [13] * 12, [13] * 11), Wait("ann", [1] * 12)
    engine.submit(broken.work)
    engine.submit(fine.work)
    encoder.go.set()
    assert fine.lengths() == [12]
    assert broken.ended.is_set()
    assert str(broken.work.error) == "13"
    assert len(encoder.later) == 2
