"""The archives that clients have uploaded, as a worker uses them: in its data folder, or fetched from the API."""

from __future__ import annotations

from pathlib import Path

from common.adapters.uploads import Uploads
from common.errors import InvalidRequest
from worker.model.api_files import ApiFiles, NotOnTheApi


class Archives:
    """Clients' archives by the ids of their uploads. Thread-safe.

    Args:
        uploads: those in the data folder.
        api: those that the API has; None: the API has the same data folder.
    """

    def __init__(self, uploads: Uploads, api: ApiFiles | None) -> None:
        self._uploads = uploads
        self._api = api

    def path(self, upload_id: str) -> Path:
        """Return the path of an archive, which is fetched from the API if necessary.

        Raises:
            InvalidRequest: it is no longer there.
            ModelUnavailable: it cannot be fetched.
        """
        path = self._uploads.path(upload_id)
        if not path.is_file() and self._api is not None:
            self._fetch(upload_id, self._api)
        if not path.is_file():
            raise InvalidRequest(
                "The uploaded file is no longer there, or not on this worker's machine: a worker that does not share "
                "the API's SLM_DATA_DIR needs SLM_API_URL. Upload it again.",
                param="file",
            )
        return path

    def remove(self, upload_id: str) -> None:
        """Delete an archive here and on the API, if it is still there."""
        self._uploads.remove(upload_id)
        if self._api is not None:
            self._api.remove_upload(upload_id)

    def _fetch(self, upload_id: str, api: ApiFiles) -> None:
        try:
            with self._uploads.receive(upload_id) as upload:
                api.fetch_upload(upload_id, upload.file)
        except NotOnTheApi as err:
            raise InvalidRequest("The uploaded file is no longer there. Upload it again.", param="file") from err
