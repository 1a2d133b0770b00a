"""Names and values that a client keeps with an object for its own use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas.strict import at_most

MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16), at_most(16)]
METADATA = "an object of at most 16 strings of 512 characters, with names of 64"
