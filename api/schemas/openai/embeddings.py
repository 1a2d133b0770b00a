"""Embeddings: the body of a request, and its answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.embedded import Vector
from api.schemas.ignored import IGNORED
from api.schemas.job_options import RequestOptions
from api.schemas.meaning import Meaning
from api.schemas.response_model import Count, ResponseModel
from api.schemas.strict import FIRST_ERROR
from api.schemas.tokens import TokenId
from common.embedding.task import MAX_INPUTS, EmbedParams

Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[TokenId], Field(min_length=1), FIRST_ERROR]


class EmbeddingBody(RequestOptions):
    """The body of `POST /v1/embeddings`."""

    model: Annotated[str, Meaning("The model to use; if it is missing, the server's only one for embeddings.")] = Field(
        "", description="the name of the model for embeddings, which GET /v1/models lists"
    )
    input: Annotated[
        Text
        | Tokens
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS), FIRST_ERROR]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_INPUTS), FIRST_ERROR],
        Meaning("Each text, or list of tokens of this model, gets a vector."),
    ] = Field(description=f"a non-empty string, a list of token ids, or a list of at most {MAX_INPUTS} of either")
    encoding_format: Annotated[
        Literal["float", "base64"],
        Meaning("How vectors are written: as numbers, or as the base64 of their float32 numbers, little-endian."),
    ] = Field("float", description='"float" or "base64"')
    dimensions: Annotated[int | None, Meaning("Length of the vectors: their first numbers are kept.")] = Field(
        None, ge=1, description="a whole number from 1 to the length of the model's vectors"
    )
    prompt_name: Annotated[
        str | None, Meaning("Name of the model's prompt that is put before each text, such as `query`.")
    ] = Field(None, description="the name of one of the model's prompts")
    user: Annotated[str | None, IGNORED, Meaning("Accepted and ignored: it is for the client's own use.")] = Field(
        None, description="a string"
    )

    def to_params(self) -> EmbedParams:
        """Return the parameters of the job."""
        return EmbedParams(self._inputs(), dimensions=self.dimensions, prompt_name=self.prompt_name)

    def _inputs(self) -> tuple[str | tuple[int, ...], ...]:
        if isinstance(self.input, str):
            return (self.input,)
        texts = [one for one in self.input if isinstance(one, str)]
        lists = [tuple(one) for one in self.input if isinstance(one, list)]
        tokens = tuple(one for one in self.input if isinstance(one, int))
        return tuple(texts or lists) or (tokens,)


class EmbeddingObject(ResponseModel):
    """The vector of an input."""

    object: Literal["embedding"]
    index: Annotated[Count, Field(description="the input's, from 0")]
    embedding: Annotated[Vector | str, Field(description="numbers, or with the format `base64` a string")]


class EmbeddingUsage(ResponseModel):
    """The numbers of tokens."""

    prompt_tokens: Count
    total_tokens: Count


class EmbeddingList(ResponseModel):
    """The vectors of all inputs, in their order."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage
