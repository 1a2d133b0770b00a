"""Has the items of a batch answered, several at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import anyio
from slm_client import Answer, ApiError, AsyncSLMClient, BadAnswer, ConnectionLost, GenerateOptions, SLMClientError
from slm_client.errors import Forbidden, JobNotFound, RateLimited, Unauthorized, Unavailable

from slm_batch.item import Item
from slm_batch.progress import Progress
from slm_batch.record import Record

# They say nothing of the item: the next one would fare no better.
STOPPING = (ConnectionLost, BadAnswer, Unauthorized, Forbidden, RateLimited, Unavailable)


class Runner:
    """Works through items; `stopped_by` is why it has given up, if it has."""

    def __init__(self, slm: AsyncSLMClient, record: Record, progress: Progress) -> None:
        self.stopped_by: SLMClientError | OSError | None = None
        self._slm = slm
        self._record = record
        self._progress = progress

    async def run(self, items: list[Item], concurrency: int) -> None:
        """Return when all are over, or none can be done any more."""
        waiting = iter(items)
        async with anyio.create_task_group() as tasks:
            for _ in range(concurrency):
                tasks.start_soon(self._work, waiting)

    async def _work(self, waiting: Iterator[Item]) -> None:
        for item in waiting:
            if self.stopped_by is not None:
                return
            try:
                self._note(item, _told(await self._answer(item)))
            except (*STOPPING, OSError) as err:
                self.stopped_by = err
                return
            except ApiError as err:
                self._note(item, {"error": {"code": err.code, "message": err.message}})

    async def _answer(self, item: Item) -> Answer:
        """Enter the item's job, or find it: it goes on when we do not. Raises as `AsyncSLMClient.wait`."""
        options = cast(GenerateOptions, {"priority": "bulk"} | item.options)
        while True:
            job = await self._slm.submit(item.prompt, idempotency_key=self._record.key(item), **options)
            try:
                return await self._slm.wait(job.id)
            except JobNotFound:
                continue  # the server's store has lost it, and the key with it: the same key makes a new job

    def _note(self, item: Item, outcome: dict[str, Any]) -> None:
        self._record.add(item, outcome)
        self._progress.note(failed="error" in outcome)


def _told(answer: Answer) -> dict[str, Any]:
    return {
        "response": answer.response,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "job_id": answer.job_id,
    }
