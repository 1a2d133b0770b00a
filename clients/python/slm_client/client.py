"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Unpack

import httpx

from slm_client import call, connection
from slm_client.answer import Answer
from slm_client.call import Call
from slm_client.cursor import StreamCursor
from slm_client.errors import SLMClientError, error_from_response
from slm_client.job import Job, JobStatus
from slm_client.options import GenerateOptions
from slm_client.patience import Patience
from slm_client.retry import Retry, RetryPolicy
from slm_client.stream import Stream


class SLMClient:
    """Talks to one server. A context manager: leaving it closes the connections.

    Every method raises `ApiError` where the server says no, and `ConnectionLost` where it cannot be reached. Both only
    after the request was repeated as `retry` says, where that could help; a repeated request makes no second job.

    Args:
        url: the server's address.
        api_key: where the server wants one.
        retry: when to ask again.
        transport: httpx's, for a proxy or certificates of one's own.
    """

    def __init__(
        self,
        url: str = connection.DEFAULT_URL,
        *,
        api_key: str | None = None,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._policy = retry or RetryPolicy()
        self._http = httpx.Client(**connection.setup(url, api_key), transport=transport)

    def __enter__(self) -> SLMClient:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def info(self) -> Mapping[str, Any]:
        """What is served: model, device, queue, workers."""
        return connection.read(self._send(call.info()), dict)

    def load(self) -> None:
        """Have every worker load the model."""
        self._change_model("load")

    def unload(self) -> None:
        """Have every worker give the model's memory back."""
        self._change_model("unload")

    def _change_model(self, what: str) -> None:
        response = self._send(call.change_model(what))
        if response.status_code == httpx.codes.ACCEPTED:
            accepted = connection.read(response, Job.from_body)
            self._last_look(accepted.id, timeout_s=None).raise_for_failure()

    def generate(
        self, prompt: str, *, idempotency_key: str | None = None, **options: Unpack[GenerateOptions]
    ) -> Answer:
        """The complete answer, however long it takes."""
        response = self._send(call.generate(prompt, options, idempotency_key))
        if response.status_code == httpx.codes.ACCEPTED:
            return self.wait(connection.read(response, Job.from_body).id)
        return connection.read(response, Answer.from_body)

    def stream(self, prompt: str, *, idempotency_key: str | None = None, **options: Unpack[GenerateOptions]) -> Stream:
        """The answer piece by piece. Nothing is sent before the first piece is asked for."""
        return Stream(self._http, StreamCursor(call.stream(prompt, options, idempotency_key)), self._policy)

    def follow(self, job_id: str, *, last_event_id: str | None = None) -> Stream:
        """The stream of a job that exists, from its beginning or behind an event."""
        cursor = StreamCursor(call.follow(job_id, last_event_id), job_id=job_id, last_event_id=last_event_id)
        return Stream(self._http, cursor, self._policy)

    def submit(self, prompt: str, *, idempotency_key: str | None = None, **options: Unpack[GenerateOptions]) -> Job:
        """Enter a job that goes on without us; `wait`, `job` and `follow` find it again."""
        return connection.read(self._send(call.submit(prompt, options, idempotency_key)), Job.from_body)

    def job(self, job_id: str) -> Job:
        """A job as it stands."""
        return connection.read(self._send(call.show(job_id)), Job.from_body)

    def jobs(self, limit: int = 100) -> list[Job]:
        """The newest jobs."""
        return connection.read(self._send(call.newest(limit)), Job.from_listing)

    def wait(self, job_id: str, *, timeout_s: float | None = None) -> Answer:
        """Ask for a job until it is over, and return its answer.

        Raises:
            ApiError: it failed or was cancelled.
            TimeoutError: it is not over after `timeout_s` seconds.
        """
        return self._last_look(job_id, timeout_s).outcome()

    def _last_look(self, job_id: str, timeout_s: float | None) -> Job:
        patience = Patience(timeout_s)
        while not (job := self.job(job_id)).is_over:
            time.sleep(patience.pause_s(job))
        return job

    def cancel(self, job_id: str) -> JobStatus:
        """Ask for a job's end; RUNNING means that it ends at its next token."""
        return connection.read(self._send(call.cancel(job_id)), Job.from_body).status

    def _send(self, wanted: Call) -> httpx.Response:
        retry = Retry(self._policy)
        while True:
            try:
                response = self._http.send(wanted.request(self._http))
                if response.is_success:
                    return response
                raise error_from_response(response)
            except (httpx.TransportError, SLMClientError) as failure:
                time.sleep(retry.pause_s(failure))
