"""The body of a request with which a worker of another host adds an adapter."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas.meaning import Meaning
from api.schemas.strict import Strict
from common.content import hash_of

_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class AdapterFilesBody(Strict):
    """Body of `PUT /slm/worker/adapters/{id}`."""

    files: Annotated[dict[str, _Digest], Meaning("The SHA-256 of each of the adapter's files by its name.")] = Field(
        min_length=1, max_length=1000, description="the hashes of files by their names"
    )

    @property
    def id(self) -> str:
        """The id of an adapter with these files."""
        return hash_of(self.files)
