"""Compares answers with a grammar with and without forced tokens, in the engine alone, with the default model in int8.

    python -m benchmarks.forced_tokens [--answers 20] [--threads 2] [--temperature 0.7] [--together 1]

Every answer is generated both ways, in turns, so that other programs affect both alike. Both must have the same tokens
and log probabilities.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.tool_calls import CITIES, QUESTIONS, TOOLS
from common.jobs.prompts import Conversation
from common.jobs.sampling import Grammar, GrammarKind, SamplingParams
from common.jobs.tools import Function, ToolRules
from common.settings import Settings
from models.base_model import resolve_base_model
from worker.engine.grammar.constraint import TokenConstraint
from worker.engine.loading.loader import EngineModel, load_model
from worker.engine.output.call_marker import CallMarker
from worker.engine.sequence import Sequence, SequenceOutput
from worker.model.loader import engine_config

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "email": {"type": "string", "maxLength": 40},
        "city": {"enum": list(CITIES)},
        "is_member": {"type": "boolean"},
        "interests": {"type": "array", "items": {"enum": ["music", "sports", "travel", "books"]}, "maxItems": 3},
    },
}
PERSON_SCHEMA = PERSON | {"required": list(PERSON["properties"]), "additionalProperties": False}
FUNCTIONS = tuple(Function(tool["function"]["name"], tool["function"]["parameters"], strict=True) for tool in TOOLS)


@dataclass(frozen=True)
class Load:
    """Prompts whose answers have a grammar."""

    name: str
    grammar: Grammar
    prompts: Callable[[int], Conversation]


def _ask(text: str, tools: tuple[dict[str, object], ...] = ()) -> Conversation:
    return Conversation(({"role": "user", "content": text},), tools)


LOADS = (
    Load(
        "JSON, six fields",
        Grammar(GrammarKind.JSON_SCHEMA, json.dumps(PERSON_SCHEMA)),
        lambda number: _ask(f"Describe person number {number}, who lives in {CITIES[number % len(CITIES)]}, as JSON."),
    ),
    Load(
        "tool calls",
        ToolRules(FUNCTIONS, must_call=True, max_calls=1).grammar(),
        lambda number: _ask(
            QUESTIONS[number % len(QUESTIONS)].replace("{}", CITIES[number % len(CITIES)]), tuple(TOOLS)
        ),
    ),
)


class Unforced:
    """A constraint without draft tokens."""

    def __init__(self, constraint: TokenConstraint) -> None:
        self._constraint = constraint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._constraint, name)

    def draft_tokens(self, _count: int) -> list[int]:
        """Return none."""
        return []


@dataclass
class Answers:
    """A `deliver` callback that keeps what arrived, and when."""

    outputs: dict[str, list[SequenceOutput]] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, outputs: list[SequenceOutput]) -> None:
        """Keep the outputs of a step."""
        with self.changed:
            for output in outputs:
                self.outputs.setdefault(output.sequence_id, []).append(output)
                self.times.setdefault(output.sequence_id, []).append(time.perf_counter())
            self.changed.notify_all()

    def wait(self, names: list[str]) -> None:
        """Wait until all of them have ended."""
        with self.changed:
            self.changed.wait_for(lambda: all(self._has_ended(name) for name in names))

    def _has_ended(self, name: str) -> bool:
        return name in self.outputs and self.outputs[name][-1].finish_reason is not None

    def tokens(self, name: str) -> list[tuple[object, ...]]:
        """Return the tokens with their log probabilities."""
        return [(one.chosen, one.top) for output in self.outputs[name] for one in output.logprobs or ()]

    def text(self, name: str) -> str:
        """Return the answer."""
        return "".join(output.text for output in self.outputs[name])

    def speed(self, names: list[str]) -> float:
        """Return the tokens per second after the first token of each."""
        begin = min(self.times[name][0] for name in names)
        end = max(self.times[name][-1] for name in names)
        count = sum(sum(len(output.token_ids) for output in self.outputs[name][1:]) for name in names)
        return count / (end - begin)


class Comparison:
    """Generates answers with and without forced tokens."""

    def __init__(self, model: EngineModel, params: SamplingParams) -> None:
        self._model = model
        self._params = params
        self._answers = Answers()
        self._engine = model.start_engine(self._answers, lambda error: print(f"The engine died: {error}"))

    def run(self, load: Load, numbers: range) -> tuple[float, float, float, float]:
        """Generate these answers at the same time; return tokens/s without and with, steps per token, share accepted.

        Raises:
            SystemExit: the answers differ.
        """
        plain = self._together(load, numbers, "plain", Unforced)
        counts = self._engine.num_draft_tokens, self._engine.num_accepted_tokens
        forced = self._together(load, numbers, "forced", lambda constraint: constraint)
        drafted, accepted = self._engine.num_draft_tokens - counts[0], self._engine.num_accepted_tokens - counts[1]
        for before, after in zip(plain, forced, strict=True):
            if self._answers.tokens(before) != self._answers.tokens(after):
                raise SystemExit(f"Different: {self._answers.text(before)} and {self._answers.text(after)}")
        num_tokens = sum(len(self._answers.tokens(name)) for name in forced)
        speeds = self._answers.speed(plain), self._answers.speed(forced)
        return *speeds, 1 - accepted / num_tokens, accepted / max(1, drafted)

    def _together(
        self, load: Load, numbers: range, way: str, wrapped: Callable[[TokenConstraint], object]
    ) -> list[str]:
        names = []
        for number in numbers:
            names.append(f"{load.name}-{number}-{way}")
            self._engine.submit(self._sequence(names[-1], load, number, wrapped))
        self._answers.wait(names)
        return names

    def _sequence(self, name: str, load: Load, number: int, wrapped: Callable[[TokenConstraint], object]) -> Sequence:
        text = self._model.texts.base
        grammar = text.renderer.in_form(load.grammar)
        sequence = Sequence(
            name, text.renderer.render(load.prompts(number)).token_ids, replace(self._params, seed=number)
        )
        sequence.constraint = wrapped(text.grammars.compile(grammar))  # type: ignore[assignment]
        if load.grammar.kind is GrammarKind.TOOLS:
            sequence.calls = CallMarker(text.renderer.tool_form, text.renderer.marker_id)
        return sequence


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--together", type=int, default=1, help="answers that are generated at the same time")
    args = parser.parse_args()
    settings = Settings(device="cpu", threads=args.threads)
    source = resolve_base_model(settings.base_model, settings.data_dir, progress=print)
    model = load_model(source, engine_config(settings), base_name=settings.base_model)
    params = SamplingParams(seed=0, temperature=args.temperature, max_new_tokens=200, logprobs=1)
    comparison = Comparison(model, params)
    print("| answers | tokens/s without | with | ratio of medians | median of ratios | steps per token | accepted |")
    print("|---|---|---|---|---|---|---|")
    for load in LOADS:
        firsts = range(1, 1 + args.answers, args.together)
        comparison.run(load, range(-args.together, 0))
        found = [comparison.run(load, range(first, first + args.together)) for first in firsts]
        without, with_forced, steps, accepted = (statistics.median(column) for column in zip(*found, strict=True))
        ratio = statistics.median(one[1] / one[0] for one in found)
        print(
            f"| {load.name}, {args.together} at a time | {without:.0f} | {with_forced:.0f} | "
            f"{with_forced / without:.2f} | {ratio:.2f} | {steps:.2f} | {accepted:.0%} |",
            flush=True,
        )
    model.close()


if __name__ == "__main__":
    main()
