"""Measures how sequences in one engine slow each other down or share work: no queue, no HTTP.

    python -m benchmarks.sharing [--threads 2] [--rounds 3]

Turns: the time to the first token of a chat's first turn of 1,000 tokens, and of its second turn, which repeats the
first turn with its answer and adds a question of 30 tokens. Neighbours: the pauses between the tokens of 8 sequences,
undisturbed, and while a prompt of 1,000 tokens is computed at the same time. Choices: the time until 4 answers have
begun, to one prompt of 1,000 tokens and to different ones. Minima and medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from common.jobs.sampling import SamplingParams
from common.settings import Settings
from models.base_model import resolve_base_model
from worker.engine.engine import Engine
from worker.engine.loading.loader import load_model
from worker.engine.sequence import Sequence, SequenceOutput
from worker.model.loader import engine_config

LONG, QUESTION, ANSWER = 1000, 30, 24  # tokens
NEIGHBOURS, NEIGHBOUR_TOKENS = 8, 96
CHOICES = 4


class Clock:
    """A `deliver` callback that records when each sequence's tokens arrived."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self._ended: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, outputs: list[SequenceOutput]) -> None:
        """Record the time of each output."""
        with self._changed:
            for output in outputs:
                self.times.setdefault(output.sequence_id, []).append(time.perf_counter())
                if output.finish_reason is not None:
                    self._ended.add(output.sequence_id)
            self._changed.notify_all()

    def wait(self, *names: str) -> None:
        """Wait until all of them have ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended.issuperset(names))

    def wait_for_first(self, *names: str) -> None:
        """Wait until all of them have begun."""
        with self._changed:
            self._changed.wait_for(lambda: self.times.keys() >= set(names))

    def pauses(self, name: str) -> list[float]:
        """Return the pauses between the tokens of a sequence, in seconds."""
        times = self.times[name]
        return [after - before for before, after in pairwise(times)]


@contextmanager
def running_engine(threads: int) -> Iterator[tuple[Engine, Clock]]:
    """An engine over the default model in int8."""
    settings, clock = Settings(device="cpu", threads=threads), Clock()
    source = resolve_base_model(settings.base_model, settings.data_dir, progress=print)
    model = load_model(source, engine_config(settings), base_name=settings.base_model)
    yield model.start_engine(clock, lambda error: print(f"The engine died: {error}")), clock
    model.close()


def tokens(first: int, count: int) -> list[int]:
    """Return tokens that differ from the beginning of every other prompt here."""
    return [first % 40_000 + 100, *((first * 31 + 7 * index) % 40_000 + 100 for index in range(1, count))]


def sequence(name: str, prompt_ids: list[int], num_tokens: int, *, seed: int = 0) -> Sequence:
    """Return a sequence that does not end before `num_tokens` tokens."""
    return Sequence(name, prompt_ids, SamplingParams(seed=seed, max_new_tokens=num_tokens, ignore_eos=True))


def time_to_first(engine: Engine, clock: Clock, *sequences: Sequence) -> float:
    """Return the seconds from the submission until all of them have their first token."""
    begin = time.perf_counter()
    for one in sequences:
        engine.submit(one)
    names = [one.sequence_id for one in sequences]
    clock.wait_for_first(*names)
    taken = max(clock.times[name][0] for name in names) - begin
    clock.wait(*names)
    return taken


def turns(engine: Engine, clock: Clock, number: int) -> tuple[float, float]:
    """Return the times to the first token of both turns, in seconds."""
    first = sequence(f"turn1-{number}", tokens(10_000 + number, LONG), ANSWER)
    first_s = time_to_first(engine, clock, first)
    second = sequence(f"turn2-{number}", first.all_ids() + tokens(20_000 + number, QUESTION), ANSWER)
    return first_s, time_to_first(engine, clock, second)


def neighbours(engine: Engine, clock: Clock, number: int) -> tuple[float, float]:
    """Return the 95th percentile of the neighbours' pauses, undisturbed and during a long prompt, in seconds."""

    def pauses(kind: str, long: Sequence | None) -> float:
        names = [f"{kind}{index}-{number}" for index in range(NEIGHBOURS)]
        for index, name in enumerate(names):
            engine.submit(sequence(name, tokens(30_000 + 100 * number + index, 8), NEIGHBOUR_TOKENS))
        clock.wait_for_first(*names)
        if long is not None:
            engine.submit(long)
        clock.wait(*names)
        return statistics.quantiles([pause for name in names for pause in clock.pauses(name)], n=20)[-1]

    return pauses("calm", None), pauses("disturbed", sequence(f"long-{number}", tokens(40_000 + number, LONG), 1))


def choices(engine: Engine, clock: Clock, number: int) -> tuple[float, float]:
    """Return the seconds until the last of several answers has begun: to one prompt, and to different prompts."""

    def ask(kind: str, first: int, step: int) -> float:
        several = [
            sequence(f"{kind}{index}-{number}", tokens(first + step * index, LONG), 8, seed=index)
            for index in range(CHOICES)
        ]
        return time_to_first(engine, clock, *several)

    return ask("same", 55_000 + number, 0), ask("other", 65_000 + 10 * number, 1)


def _report(name: str, labels: tuple[str, str], rounds: list[tuple[float, float]]) -> None:
    columns = zip(labels, zip(*rounds, strict=True), strict=True)
    columns_text = ", ".join(
        f"{label} min {min(times) * 1e3:.0f} median {statistics.median(times) * 1e3:.0f} ms" for label, times in columns
    )
    ratio = statistics.median(second / first for first, second in rounds)
    print(f"{name}: {columns_text}, ratio (median of the rounds) {ratio:.2f}")


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description="How sequences in one engine slow each other down or share work.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with running_engine(args.threads) as (engine, clock):
        rounds = range(args.rounds)
        both_turns = [turns(engine, clock, number) for number in rounds]
        pauses = [neighbours(engine, clock, number) for number in rounds]
        answers = [choices(engine, clock, number) for number in rounds]
    _report("turns", ("first", "second"), both_turns)
    _report("neighbours' pauses, p95", ("calm", "during a long prompt"), pauses)
    _report("choices", ("of one prompt", "of different prompts"), answers)


if __name__ == "__main__":
    main()
