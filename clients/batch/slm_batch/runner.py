"""Gets answers for the items of a batch, several at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import anyio
from slm_client import Answer, ApiError, AsyncSLMClient, BadAnswer, ConnectionLost, GenerateOptions, SLMClientError
from slm_client.errors import Forbidden, JobNotFound, RateLimited, Unauthorized, Unavailable

from slm_batch.item import Item
from slm_batch.progress import Progress
from slm_batch.record import Record

# These errors are not caused by the item: the next item would fail in the same way.
STOPPING = (ConnectionLost, BadAnswer, Unauthorized, Forbidden, RateLimited, Unavailable)


class Runner:
    """Processes the items; `stopped_by` is the error that made it give up, if any."""

    def __init__(self, slm: AsyncSLMClient, record: Record, progress: Progress) -> None:
        self.stopped_by: SLMClientError | OSError | None = None
        self._slm = slm
        self._record = record
        self._progress = progress

    async def run(self, items: list[Item], concurrency: int) -> None:
        """Return when all items are finished, or when it has given up."""
        waiting = iter(items)
        async with anyio.create_task_group() as tasks:
            for _ in range(concurrency):
                tasks.start_soon(self._work, waiting)

    async def _work(self, waiting: Iterator[Item]) -> None:
        for item in waiting:
            if self.stopped_by is not None:
                return
            try:
                self._note(item, _fields_of(await self._answer(item)))
            except (*STOPPING, OSError) as err:
                self.stopped_by = err
                return
            except ApiError as err:
                self._note(item, {"error": {"code": err.code, "message": err.message}})

    async def _answer(self, item: Item) -> Answer:
        """Submit the item's job, or find it if it still runs from an earlier run. Raises like `AsyncSLMClient.wait`."""
        options = cast(GenerateOptions, {"priority": "bulk"} | item.options)
        while True:
            job = await self._slm.submit(item.prompt, idempotency_key=self._record.key(item), **options)
            try:
                return await self._slm.wait(job.id)
            except JobNotFound:
                continue  # the server has lost the job and its key: the same key now creates a new job

    def _note(self, item: Item, outcome: dict[str, Any]) -> None:
        self._record.add(item, outcome)
        self._progress.note(failed="error" in outcome)


def _fields_of(answer: Answer) -> dict[str, Any]:
    return {
        "response": answer.response,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "job_id": answer.job_id,
    }
