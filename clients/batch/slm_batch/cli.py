"""The command line of the batch client."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import anyio
from slm_client import AsyncSLMClient, RetryPolicy
from slm_client.connection import DEFAULT_URL

from slm_batch.batch_lock import RecordInUse
from slm_batch.item import BadPrompts, Item, check_options, read_items
from slm_batch.progress import Progress
from slm_batch.record import BadRecord, Record, open_record
from slm_batch.runner import Runner

EPILOG = """\
Each line of a .jsonl file is a prompt, or an object with "prompt", "id" and options; each line of any other file is a
prompt. Run the same command again to continue after an interruption. No prompt is computed twice as long as the server
remembers its jobs (SLM_JOB_TTL_S, an hour). SLMCLIENT_API_KEY is the API key, if the server has keys.

exit status: 0 all prompts are answered; 1 some failed, the answers file has their errors; 2 the command or a file is
wrong; 3 the server is unavailable, run the command again later; 130 interrupted, run the command again
"""


class Exit(IntEnum):
    """Exit statuses."""

    ANSWERED = 0
    SOME_FAILED = 1
    USAGE = 2
    UNFINISHED = 3
    INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Run a batch; returns the exit status."""
    asked = _parser().parse_args(argv)
    try:
        defaults = _options(asked.option)
        items = read_items(asked.prompts, defaults)
        with open_record(asked.answers, items) as record:
            return _run(asked, items, record)
    except (BadPrompts, BadRecord, RecordInUse, OSError) as err:
        print(f"batch: {err}", file=sys.stderr)
        return Exit.USAGE
    except KeyboardInterrupt:
        print("\nbatch: interrupted; run the same command again to continue", file=sys.stderr)
        return Exit.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="batch.py",
        description="Answer the prompts in a file.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompts", type=Path, help="file of prompts: .jsonl, or text with a prompt on each line")
    parser.add_argument("answers", type=Path, help="file for the answers (JSON Lines), new or incomplete")
    parser.add_argument("--url", default=os.environ.get("SLMCLIENT_URL", DEFAULT_URL), help=f"server ({DEFAULT_URL})")
    parser.add_argument("-n", "--concurrency", type=_positive, default=8, help="prompts in flight at once (8)")
    parser.add_argument("-o", "--option", action="append", default=[], help="NAME=VALUE for every prompt")
    parser.add_argument("--retry-failed", action="store_true", help="retry prompts that failed in an earlier run")
    parser.add_argument("--retries", type=int, default=60, help="attempts while the server is unreachable or busy (60)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _options(pairs: list[str]) -> dict[str, Any]:
    """Parse NAME=VALUE pairs. Raises `BadPrompts` for an invalid pair or an unknown name."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadPrompts(f"-o takes NAME=VALUE; got {pair!r}")
        options[name] = _json_or_text(value)
    check_options(options, "-o")
    return options


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _run(asked: argparse.Namespace, items: list[Item], record: Record) -> int:
    todo = record.todo(items, retry_failed=asked.retry_failed)
    num_answered, num_failed = record.count([item for item in items if item not in todo])
    progress = Progress(sys.stderr, total=len(items), num_answered=num_answered, num_failed=num_failed)
    try:
        runner = anyio.run(_work, asked, todo, record, progress)
    finally:
        progress.finish()
    if runner.stopped_by is not None:
        print(f"batch: {runner.stopped_by}; run the same command again to continue", file=sys.stderr)
        return Exit.UNFINISHED
    return Exit.SOME_FAILED if record.count(items)[1] else Exit.ANSWERED


async def _work(asked: argparse.Namespace, todo: list[Item], record: Record, progress: Progress) -> Runner:
    policy = RetryPolicy(attempts=asked.retries)
    async with AsyncSLMClient(asked.url, api_key=os.environ.get("SLMCLIENT_API_KEY"), retry=policy) as slm:
        runner = Runner(slm, record, progress)
        await runner.run(todo, asked.concurrency)
        return runner
