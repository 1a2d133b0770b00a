"""The connection to one server: the client of the project, and the requests that only this command makes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
from slm_client import BadAnswer, ConnectionLost, RetryPolicy, SLMClient, Stream, connection
from slm_client.call import ANSWER_S, CONNECT_S, GENERATION_S, SILENCE_S, Call
from slm_client.cursor import StreamCursor
from slm_client.errors import error_from_response
from slm_client.job import Job

_POLICY = RetryPolicy(patience_s=10.0)  # a person waits: a longer pause is theirs to decide


class Session(SLMClient):
    """Like `SLMClient`, with the server's JSON as it is.

    Args:
        url: the server's address.
        api_key: the API key, if the server has keys.
        policy: the policy for retries.
    """

    def __init__(self, url: str, api_key: str | None, policy: RetryPolicy = _POLICY) -> None:
        super().__init__(url, api_key=api_key, retry=policy)
        self._url = url

    def reach(self) -> None:
        """Check that a server answers, without the patience that a server which restarts deserves.

        Raises:
            ConnectionLost: nobody listens there.
            BadAnswer: something else does.
        """
        try:
            response = self._http.get("/healthz", timeout=CONNECT_S)
        except httpx.TransportError as err:
            raise ConnectionLost(
                f"no server answers at {self._url} ({err}). Start one with 'slm serve', or name another "
                "one with --url or SLMCLIENT_URL."
            ) from err
        if response.status_code >= httpx.codes.BAD_GATEWAY:
            raise error_from_response(response)  # a proxy, whose server is not there
        if not response.is_success or connection.read(response, dict).get("status") != "ok":
            raise BadAnswer(f"what answers at {self._url} is not an SLM server. Name another one with --url.")

    def fetch(self, call: Call) -> dict[str, Any]:
        """Send a request, with the usual retries. Returns the JSON object of the answer."""
        return connection.read(self._send(call), dict)

    def converse(self, body: Mapping[str, Any]) -> Stream:
        """Stream the next message of a conversation. `body` is that of a chat completion."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        opening = Call("POST", "/v1/chat/completions", {**body, "stream": True}, headers, read_s=SILENCE_S)
        return Stream(self._http, _JobOfChat(opening), self._policy)

    def upload(self, name: str, archive: Iterable[bytes], content_type: str, base: str | None = None) -> dict[str, Any]:
        """Publish an archive, given as its bytes, as the next version of adapter `name`. Returns the new version.

        `base` is the name of its base model; None: the server finds out.

        Raises:
            ConnectionLost: as every request, but it is not repeated.
        """
        request = self._http.build_request(
            "POST",
            "/slm/adapters",
            params={"name": name} | ({} if base is None else {"base": base}),
            content=archive,
            headers={"Content-Type": content_type},
            timeout=httpx.Timeout(CONNECT_S, read=GENERATION_S, write=ANSWER_S),
        )
        try:
            response = self._http.send(request)
        except httpx.TransportError as err:
            raise ConnectionLost(
                f"the connection to {self._url} was lost during the upload ({err}). Run the command again: what the "
                "server has already is not added twice."
            ) from err
        return self._result(response)

    def check_dataset(
        self, name: str, content: bytes, options: Mapping[str, Any], validation: tuple[str, bytes] | None
    ) -> dict[str, Any]:
        """Return the report about a dataset. What is too large for a body is uploaded, and deleted afterwards.

        Args:
            name, content: the dataset.
            options: as in `POST /slm/datasets/check`.
            validation: name and content of a dataset to test with.
        """
        with ExitStack() as uploads:
            wanted = dict(options)
            if validation is not None:
                wanted["validation_file_id"] = uploads.enter_context(self._uploaded(*validation))
            headers = {"Content-Type": "application/octet-stream"}
            response = self._post("/slm/datasets/check", params=wanted, content=content, headers=headers)
            if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
                wanted["file_id"] = uploads.enter_context(self._uploaded(name, content))
                response = self._post("/slm/datasets/check", json=wanted)
            return self._result(response)

    def content(self, file_id: str) -> bytes:
        """Return the content of a file on the server."""
        return self._send(Call("GET", f"/v1/files/{file_id}/content")).content

    def send_dataset(self, name: str, content: bytes) -> str:
        """Store a dataset on the server; return the file's id."""
        kept = self._post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)})
        if not kept.is_success:
            raise error_from_response(kept)
        return connection.read(kept, lambda body: str(body["id"]))

    @contextmanager
    def _uploaded(self, name: str, content: bytes) -> Iterator[str]:
        """Keep a dataset as a file for the duration of a `with` block; yields its id."""
        file_id = self.send_dataset(name, content)
        try:
            yield file_id
        finally:
            self.fetch(Call("DELETE", f"/v1/files/{file_id}"))

    def _post(self, path: str, **sent: Any) -> httpx.Response:
        """Send a request that is not repeated."""
        timeout = httpx.Timeout(CONNECT_S, read=GENERATION_S, write=ANSWER_S)
        try:
            return self._http.post(path, timeout=timeout, **sent)
        except httpx.TransportError as err:
            raise ConnectionLost(f"the connection to {self._url} was lost ({err}). Run the command again.") from err

    def _result(self, response: httpx.Response) -> dict[str, Any]:
        """Return the result of a request that may have to wait for its job."""
        if not response.is_success:
            raise error_from_response(response)
        if response.status_code == httpx.codes.ACCEPTED:
            return self._result_of(connection.read(response, Job.from_body).id)
        return connection.read(response, dict)

    def _result_of(self, job_id: str) -> dict[str, Any]:
        """Wait for a job, and return its result."""
        self._last_look(job_id, timeout_s=None).raise_for_failure()
        shown = self.fetch(Call("GET", f"/slm/jobs/{job_id}"))
        return dict(shown["result"] or {})


class _JobOfChat(StreamCursor):
    """Opens a chat completion, but reads the job's own stream, which can be resumed."""

    def opened(self, response: httpx.Response) -> bool:
        """See `StreamCursor.opened`; the first response only has the job's id.

        Raises:
            BadAnswer: it does not have it.
        """
        is_opening = self.job_id is None
        has_events = super().opened(response)
        if self.job_id is None:
            raise BadAnswer(f"the answer of {response.url} has no X-Job-Id.")
        return has_events and not is_opening
