"""The short form of `benchmarks/streams`: its assumptions, without its measurements."""

from __future__ import annotations

from benchmarks.streams.fake_worker import Load
from benchmarks.streams.run import run


def test_200_streams_open_at_once_each_get_every_token_once() -> None:
    figures = run(Load(streams=200, tokens=10, rate=5, rows=32))
    assert figures.not_connected == 0
    assert figures.wrong == []
    assert len(figures.delays_ms) == 200 * 10
    assert min(figures.delays_ms) > 0, "written and read on one clock"
