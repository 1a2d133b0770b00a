"""Submits the lines of batches as jobs and collects their results, a limited number at a time.

Every API process has a driver. The one with the batch lock, a lease in Redis, drives all batches; another takes over
if it dies. All state is in Redis, and every step is idempotent: a line's jobs have idempotency keys.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from redis.exceptions import RedisError

from api.auth.caller import Caller
from api.openai import errors
from api.openai.batches.line_routes import LineBody, LineRoute
from api.openai.batches.request import BatchLine, check_lines, read_line, read_request
from api.schemas.openai.batches import LineError
from api.service import JobService, NewJob
from common.adapters.names import split_version
from common.adapters.registry import AdapterRegistry
from common.errors import InternalError, InvalidRequest, JobNotFound, NotFound, SLMError
from common.jobs.job import JobRecord
from common.jobs.store import JobOptions
from common.owners.batches import Batch, BatchStatus, BatchStore
from common.owners.files import FileStore

WINDOW = 32  # lines of a batch that are in flight at once: enough to keep a worker busy
IDLE_S, BUSY_S = 1.0, 0.2  # pause between two rounds
LEASE_S = 15.0  # without a round for this long, another process takes over

Json = dict[str, Any]
log = logging.getLogger(__name__)


class BatchDriver:
    """The driver of one process.

    Args:
        batches: the batches.
        files: their input and output files.
        jobs: submits and reads their jobs.
        registry: the models.
        routes: the routes that lines may name, by their paths.
    """

    def __init__(
        self,
        batches: BatchStore,
        files: FileStore,
        jobs: JobService,
        registry: AdapterRegistry,
        routes: Mapping[str, LineRoute[Any]],
    ) -> None:
        self._batches = batches
        self._files = files
        self._jobs = jobs
        self._registry = registry
        self._routes = routes
        self._name = uuid.uuid4().hex

    def start(self) -> None:
        """Start driving on a thread, until the process ends."""
        threading.Thread(target=self._run, name="slm-batches", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                is_busy = self.drive()
            except RedisError as err:
                log.warning("batches: Redis does not answer (%s); trying again", err)
                is_busy = False
            time.sleep(BUSY_S if is_busy else IDLE_S)

    def drive(self) -> bool:
        """Do a step for each open batch if this process has the batch lock; return whether there was one."""
        if not self._batches.lead(self._name, lease_s=LEASE_S):
            return False
        batch_ids = self._batches.open()
        for batch_id in batch_ids:
            self._try_step(batch_id)
        return bool(batch_ids)

    def _try_step(self, batch_id: str) -> None:
        """Do a step for one batch; any exception fails only this batch."""
        try:
            self._step(self._batches.find(batch_id))
        except NotFound:
            self._batches.tidy(batch_id)
        except RedisError:
            raise
        except Exception:
            log.exception("batch %s failed", batch_id)
            failure = LineError(code=InternalError.code, line=None, message="The server failed.", param=None)
            self._fail(self._batches.find(batch_id), [failure])

    def _step(self, batch: Batch) -> None:
        match batch.status:
            case BatchStatus.VALIDATING:
                self._validate(batch)
            case BatchStatus.IN_PROGRESS if time.time() < batch.expires_at:
                self._advance(batch)
            case BatchStatus.IN_PROGRESS:
                self._end_early(batch, BatchStatus.EXPIRED)
            case BatchStatus.CANCELLING:
                self._end_early(batch, BatchStatus.CANCELLED)
            case BatchStatus.FINALIZING:
                self._finish(batch, BatchStatus.COMPLETED)
            case _:
                self._batches.tidy(batch.id)

    def _validate(self, batch: Batch) -> None:
        found = check_lines(self._batches.lines(batch), batch.endpoint)
        if found.errors:
            self._fail(batch, found.errors)
            return
        self._batches.note(batch.id, total=found.total, models=json.dumps(self._models_of(batch, found.models)))
        self._batches.move(batch.id, BatchStatus.IN_PROGRESS, [BatchStatus.VALIDATING])

    def _models_of(self, batch: Batch, names: Iterable[str]) -> dict[str, str]:
        """Return what the names in the lines stood for when the batch was created, as far as they stood for anything.

        The name of a version stands for the same at any time.
        """
        known = (name for name in names if name in batch.models or self._is_version(name))
        return {name: batch.models.get(name, name) for name in known}

    def _is_version(self, name: str) -> bool:
        return split_version(name)[1] is not None and self._registry.resolve(name) is not None

    def _fail(self, batch: Batch, problems: list[LineError]) -> None:
        self._cancel(batch)
        self._batches.end(batch, BatchStatus.FAILED, errors=json.dumps(problems))

    def _advance(self, batch: Batch) -> None:
        num_running = self._collect(batch)
        cursor = batch.cursor
        while num_running < WINDOW and (text := self._batches.line(batch, cursor)) is not None:
            if text.strip():
                if not self._enter(batch, cursor, read_line(text)):
                    return  # the queue has no room for it now
                num_running += 1
            cursor += 1
            self._batches.note(batch.id, cursor=cursor)
        if num_running == 0 and not self._batches.jobs(batch.id):
            self._batches.move(batch.id, BatchStatus.FINALIZING, [BatchStatus.IN_PROGRESS])

    def _enter(self, batch: Batch, number: int, line: BatchLine) -> bool:
        """Submit a line's jobs; return False if that must be repeated later."""
        try:
            job_ids = [self._jobs.submit(job).job_id for job in self._new_jobs(batch, number, line)]
        except SLMError as err:
            if err.retryable:
                return False
            self._note_error(batch, number, line, self._in_names_of(line, err))
        else:
            self._batches.note_jobs(batch.id, number, job_ids)
        return True

    def _new_jobs(self, batch: Batch, number: int, line: BatchLine) -> list[NewJob]:
        body, route = read_request(line), self._routes[line.url]
        model = route.model(body, batch.models)
        return [
            NewJob(batch.owner, route.kind, params, _options(batch, f"{number}:{index}", body, model, route.keep_s))
            for index, params in enumerate(route.params(body))
        ]

    def _collect(self, batch: Batch) -> int:
        """Record the lines that have ended; return how many are still in flight."""
        running = self._batches.jobs(batch.id)
        return sum(not self._take_result(batch, number, job_ids) for number, job_ids in running.items())

    def _take_result(self, batch: Batch, number: int, job_ids: list[str]) -> bool:
        try:
            records = [self._jobs.get(job_id, _owner_of(batch)) for job_id in job_ids]
        except JobNotFound:  # no driver ran for so long that the record has expired
            self._enter(batch, number, self._line(batch, number))
            return False
        if not all(record.state.is_terminal for record in records):
            return False
        line = self._line(batch, number)
        try:
            answer = self._answer(line, records)
        except SLMError as err:
            self._note_error(batch, number, line, self._in_names_of(line, err), records[0].id)
        else:
            result = _result(batch, number, line, 200, answer, records[0].id)
            self._batches.note_result(batch.id, number, result, is_error=False)
        return True

    def _line(self, batch: Batch, number: int) -> BatchLine:
        return read_line(self._batches.line(batch, number) or "")

    def _answer(self, line: BatchLine, records: list[JobRecord]) -> Mapping[str, Any]:
        return self._routes[line.url].answer(read_request(line), records)

    def _note_error(self, batch: Batch, number: int, line: BatchLine, err: SLMError, job_id: str = "") -> None:
        result = _result(batch, number, line, err.status, errors.body(err), job_id)
        self._batches.note_result(batch.id, number, result, is_error=True)

    def _in_names_of(self, line: BatchLine, err: SLMError) -> SLMError:
        """Return the error with the names that the line's request has for the fields."""
        try:
            return err.renamed(self._routes[line.url].names_of(read_request(line)))
        except InvalidRequest as refused:
            return refused

    def _end_early(self, batch: Batch, last: BatchStatus) -> None:
        """Cancel the lines in flight, and end the batch with the results so far."""
        self._cancel(batch)
        if self._collect(batch) == 0:
            if last is BatchStatus.EXPIRED:
                self._note_expired(batch)
            self._finish(self._batches.find(batch.id), last)

    def _note_expired(self, batch: Batch) -> None:
        """Record an error for each line that was never submitted."""
        for number, text in self._batches.lines(batch):
            if number >= batch.cursor and text.strip():
                late = {"code": "batch_expired", "message": "The batch expired before this request was run."}
                result = {"id": _request_id(batch, number), "custom_id": read_line(text).custom_id}
                self._batches.note_result(batch.id, number, result | {"response": None, "error": late}, is_error=True)

    def _cancel(self, batch: Batch) -> None:
        """Cancel the lines in flight."""
        for job_id in chain.from_iterable(self._batches.jobs(batch.id).values()):
            try:
                self._jobs.cancel(job_id, _owner_of(batch))
            except JobNotFound:
                log.info("batch %s: job %s has expired already", batch.id, job_id)

    def _finish(self, batch: Batch, last: BatchStatus) -> None:
        """Write the files, then the final status."""
        written = {}
        for part, field, count in (
            ("output", "output_file_id", batch.completed),
            ("errors", "error_file_id", batch.failed),
        ):
            if count:
                name, file_id = f"{batch.id}_{part}.jsonl", f"file-{batch.id.removeprefix('batch_')}-{part}"
                lines = self._batches.results(batch.id, part)
                written[field] = self._files.put(batch.owner, name, "batch_output", lines, file_id=file_id).id
        self._batches.end(batch, last, **written)


def _owner_of(batch: Batch) -> Caller:
    return Caller(batch.owner, is_admin=False)


def _options(batch: Batch, part: str, body: LineBody, model: str, keep_s: int | None) -> JobOptions:
    return JobOptions(
        bulk=True,
        ttl_s=body.ttl,
        timeout_s=body.timeout,
        idempotency_key=f"{batch.id}:{part}",
        fingerprint=batch.id,
        keep_s=keep_s,
        model=model,
    )


def _result(batch: Batch, number: int, line: BatchLine, status: int, body: Mapping[str, Any], job_id: str) -> Json:
    return {
        "id": _request_id(batch, number),
        "custom_id": line.custom_id,
        "response": {"status_code": status, "request_id": job_id or _request_id(batch, number), "body": body},
        "error": None,
    }


def _request_id(batch: Batch, number: int) -> str:
    return f"batch_req_{batch.id.removeprefix('batch_')}_{number}"
