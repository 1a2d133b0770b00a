"""Fetches files of adapters from the API, and sends them: for a worker that does not share the API's data folder."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

import httpx

from common.content import files_of
from common.errors import ModelUnavailable

TIMEOUT_S = 10.0  # to connect, and without a byte
LONGEST_S = 900.0  # of a download
RETRY_DELAYS_S = (0.5, 2.0, 5.0)
_CHUNK = 1 << 20
_ADAPTERS, _UPLOADS = "/slm/worker/adapters", "/slm/worker/uploads"

log = logging.getLogger(__name__)

T = TypeVar("T")


class NotOnTheApi(ModelUnavailable):
    """The API does not have what was asked for."""


class _Trouble(Exception):
    """A request failed in a way that another one may not; the text says how."""


class ApiFiles:
    """The API's files of adapters. Thread-safe.

    Every method tries a request again for a while, and raises `ModelUnavailable` if it fails for good.

    Args:
        url: address of the API (`SLM_API_URL`).
        key: a key with the role `worker` or `admin` (`SLM_WORKER_KEY`); None on a server without keys.
        max_bytes: maximum size of an adapter's files, and of an archive.
        delays_s: pauses before the second and further tries.
    """

    def __init__(
        self, url: str, key: str | None, *, max_bytes: int, delays_s: tuple[float, ...] = RETRY_DELAYS_S
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)
        self._url = url
        self._max_bytes = max_bytes
        self._delays_s = delays_s

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def fetch_adapter(self, adapter_id: str, folder: Path) -> None:
        """Write the files of an adapter to an empty folder. The caller checks their hash.

        Raises:
            NotOnTheApi: the API does not have them.
            ModelUnavailable: they cannot be fetched; the text says why.
        """
        path = f"{_ADAPTERS}/{adapter_id}"
        files = self._persistently(lambda: self._get(path))["files"]
        if sum(file["bytes"] for file in files) > self._max_bytes:
            raise ModelUnavailable(f"The adapter is larger than {self._max_bytes} bytes (SLM_MAX_ADAPTER_BYTES).")
        for file in files:
            with (folder / Path(file["name"]).name).open("xb") as out:
                self._download(f"{path}/{file['name']}", out, file["bytes"])

    def offer_adapter(self, adapter_id: str, folder: Path) -> None:
        """Send the files of an adapter unless the API has them."""
        if self._has(adapter_id):
            return
        hashes = {}
        for file in files_of(folder):
            with file.open("rb") as content:
                hashes[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
            self._persistently(lambda path=file, digest=hashes[file.name]: self._send(path, digest))  # type: ignore[misc]
        self._persistently(lambda: self._put(adapter_id, hashes))
        log.info("sent adapter %s to %s", adapter_id, self._url)

    def fetch_upload(self, upload_id: str, file: BinaryIO) -> None:
        """Write a client's archive to an empty file.

        Raises:
            NotOnTheApi: the API does not have it.
        """
        self._download(f"{_UPLOADS}/{upload_id}", file, self._max_bytes)

    def remove_upload(self, upload_id: str) -> None:
        """Delete a client's archive. If that fails, the API does it later by itself."""
        try:
            self._request("DELETE", f"{_UPLOADS}/{upload_id}")
        except (_Trouble, ModelUnavailable) as err:
            log.warning("upload %s was not deleted: %s", upload_id, err)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _persistently(self, request: Callable[[], T]) -> T:
        for delay in (*self._delays_s, None):
            try:
                return request()
            except _Trouble as err:
                if delay is None:
                    raise ModelUnavailable(f"The API at {self._url} (SLM_API_URL) cannot be used: {err}.") from err
                log.warning("the API at %s cannot be used (%s); trying again in %.1f s", self._url, err, delay)
                time.sleep(delay)
        raise AssertionError

    def _has(self, adapter_id: str) -> bool:
        try:
            self._persistently(lambda: self._get(f"{_ADAPTERS}/{adapter_id}"))
        except NotOnTheApi:
            return False
        return True

    def _get(self, path: str) -> Any:
        return self._request("GET", path)

    def _put(self, adapter_id: str, hashes: dict[str, str]) -> None:
        self._request("PUT", f"{_ADAPTERS}/{adapter_id}", json={"files": hashes})

    def _send(self, file: Path, digest: str) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)}
        with file.open("rb") as content:
            self._request("POST", f"{_UPLOADS}/{digest}", content=_chunks(content), headers=headers)

    def _request(self, method: str, path: str, **options: Any) -> Any:
        with _as_trouble():
            response = self._client.request(method, path, **options)
            _check(response)
            return response.json()

    def _download(self, path: str, file: BinaryIO, max_bytes: int) -> None:
        self._persistently(lambda: self._download_once(path, file, max_bytes))

    def _download_once(self, path: str, file: BinaryIO, max_bytes: int) -> None:
        file.seek(0)
        file.truncate()
        size, deadline = 0, time.monotonic() + LONGEST_S
        with _as_trouble(), self._client.stream("GET", path) as response:
            if response.is_error:
                response.read()
            _check(response)
            for chunk in response.iter_raw():
                if (size := size + len(chunk)) > max_bytes:
                    raise ModelUnavailable(f"The API sent more than the {max_bytes} bytes that were expected.")
                if time.monotonic() > deadline:
                    raise _Trouble(f"a download took longer than {LONGEST_S:.0f} s")
                file.write(chunk)


@contextmanager
def _as_trouble() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, ValueError) as err:
        raise _Trouble(f"{type(err).__name__}: {err}") from err


def _check(response: httpx.Response) -> None:
    """Raise the error that the response stands for."""
    if response.is_success:
        return
    text = _text(response)
    if response.status_code == 404:
        raise NotOnTheApi(f"The API does not have it: {text}")
    if response.status_code >= 500 or response.status_code == 429:
        raise _Trouble(f"it answered with {response.status_code}: {text}")
    hint = " Set SLM_WORKER_KEY to a key with the role 'worker'." if response.status_code in (401, 403) else ""
    raise ModelUnavailable(f"The API refused a request of this worker ({response.status_code}): {text}{hint}")


def _text(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, LookupError, TypeError):
        return response.reason_phrase


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(_CHUNK):
        yield chunk
