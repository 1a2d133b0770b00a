"""The vectors of an `embed` job."""

from __future__ import annotations

import struct
from typing import Annotated

from pydantic import Field

from api.schemas.generated import ModelUsed, TokenCounts
from api.schemas.response_model import Count, JobId
from common.embedding.task import BYTES_PER_NUMBER

Vector = Annotated[list[float], Field(description="the numbers of an input's vector")]


class Embedded(ModelUsed):
    """The vectors of texts."""

    success: bool
    embeddings: list[Vector]
    dimensions: Count
    job_id: JobId
    usage: TokenCounts


def numbers(row: bytes) -> list[float]:
    """Return the numbers of a vector, with as many digits as float32 has."""
    return [float(text) for text in digits(row)]


def digits(row: bytes) -> list[str]:
    """Return the numbers of a vector as JSON: nine digits identify a float32."""
    return [f"{value:.9g}" for value in struct.unpack(f"<{len(row) // BYTES_PER_NUMBER}f", row)]
