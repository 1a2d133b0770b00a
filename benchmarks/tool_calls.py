"""How many of the calls that a running server makes with `tool_choice: "required"` are valid.

    python -m benchmarks.tool_calls --url http://127.0.0.1:5000/v1 --calls 200

Each request asks something else, with sampling at temperature 1. An answer counts if it has at least one call, and if
all its calls name a declared function and have arguments that the function's schema accepts.
"""

from __future__ import annotations

import argparse
import collections
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
from openai import OpenAI

CITIES = ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Quito", "Accra", "Hanoi", "Perth")
QUESTIONS = (
    "What is the weather in {}?",
    "Set a timer for {} minutes, please. I am in {}.",
    "Which hotels are free in {} next week for two people?",
    "Send Ada a message that I am in {}.",
)


def _tool(name: str, description: str, required: list[str], **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    function = {"name": name, "description": description, "parameters": schema, "strict": True}
    return {"type": "function", "function": function}


TEXT = {"type": "string", "maxLength": 80}
TOOLS = [
    _tool("get_weather", "Get the weather of a city", ["city"], city=TEXT, unit={"enum": ["celsius", "fahrenheit"]}),
    _tool("set_timer", "Set a timer", ["minutes"], minutes={"type": "integer", "minimum": 1, "maximum": 600}),
    _tool(
        "find_hotels",
        "Find free hotels",
        ["city", "guests"],
        city=TEXT,
        guests={"type": "integer", "minimum": 1, "maximum": 9},
        wishes={"type": "array", "items": {"enum": ["pool", "wifi", "breakfast"]}, "maxItems": 3},
    ),
    _tool(
        "send_message",
        "Send somebody a message",
        ["to", "message"],
        to={"type": "object", "properties": {"name": TEXT}, "required": ["name"], "additionalProperties": False},
        message=TEXT,
    ),
]
SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}


def fault(choice: Any) -> str | None:
    """Return what is wrong with an answer; None if it is valid."""
    calls = choice.message.tool_calls or []
    if choice.finish_reason != "tool_calls" or not calls:
        return f"no call: finish_reason {choice.finish_reason}"
    for call in calls:
        if call.function.name not in SCHEMAS:
            return "no such function"
        try:
            jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
        except (ValueError, jsonschema.ValidationError) as err:
            return f"{type(err).__name__}: {err}"[:80]
    return None


def ask(client: OpenAI, number: int, choice: str) -> tuple[str | None, int, int]:
    """Return the fault of one answer, the number of its calls and of its tokens."""
    question = QUESTIONS[number % len(QUESTIONS)].replace("{}", CITIES[number // len(QUESTIONS) % len(CITIES)])
    answer = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": question}],
        tools=TOOLS,  # type: ignore[arg-type]
        tool_choice=choice,  # type: ignore[arg-type]
        seed=number,
    )
    (first,) = answer.choices
    usage = answer.usage
    return fault(first), len(first.message.tool_calls or ()), 0 if usage is None else usage.completion_tokens


def main() -> None:
    """Ask, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:5000/v1")
    parser.add_argument("--key", default="none")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--choice", default="required")
    args = parser.parse_args()
    client = OpenAI(base_url=args.url, api_key=args.key, timeout=600)
    begin = time.monotonic()
    with ThreadPoolExecutor(args.clients) as pool:
        answers = list(pool.map(lambda number: ask(client, number, args.choice), range(args.calls)))
    seconds = time.monotonic() - begin
    faults = collections.Counter(found for found, _, _ in answers if found is not None)
    num_calls, num_tokens = (sum(one[index] for one in answers) for index in (1, 2))
    print(f"{args.calls - faults.total()} of {args.calls} answers valid, {num_calls} calls")
    print(f"{num_tokens / seconds:.0f} tokens/s, {seconds:.0f} s")
    for found, count in faults.most_common():
        print(f"{count:5d} {found}")


if __name__ == "__main__":
    main()
