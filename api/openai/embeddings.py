"""`POST /v1/embeddings`: the vectors of texts."""

from __future__ import annotations

import base64
import json
import time

from flask import Response

from api.embedding.running import embedded
from api.jobs.request import read_body
from api.schemas.embedded import digits, numbers
from api.schemas.openai.embeddings import EmbeddingBody, EmbeddingList, EmbeddingObject, EmbeddingUsage
from common.embedding.task import EmbedResult


def embeddings_answer() -> Response:
    """Answer the current request."""
    body = read_body(EmbeddingBody)
    result, record = embedded(body, body.to_params(), body.model, body)
    written = _written(result, record.model, is_base64=body.encoding_format == "base64")
    return Response(written, mimetype="application/json")


def embedding_list(result: EmbedResult, model: str, *, is_base64: bool) -> EmbeddingList:
    """Return the answer as an object, for a line of a batch."""
    data: list[EmbeddingObject] = []
    for index, row in enumerate(result.rows()):
        time.sleep(0)  # gives other requests a turn
        vector = base64.b64encode(row).decode() if is_base64 else numbers(row)
        data.append(EmbeddingObject(object="embedding", index=index, embedding=vector))
    usage = EmbeddingUsage(prompt_tokens=result.prompt_tokens, total_tokens=result.prompt_tokens)
    return EmbeddingList(object="list", data=data, model=model, usage=usage)


def _written(result: EmbedResult, model: str, *, is_base64: bool) -> str:
    """Return the body as text: a million numbers would hold up other requests if they were written in one go."""
    data = ", ".join(
        f'{{"object": "embedding", "index": {index}, "embedding": {_vector(row, is_base64=is_base64)}}}'
        for index, row in enumerate(result.rows())
    )
    usage = {"prompt_tokens": result.prompt_tokens, "total_tokens": result.prompt_tokens}
    return f'{{"object": "list", "data": [{data}], "model": {json.dumps(model)}, "usage": {json.dumps(usage)}}}\n'


def _vector(row: bytes, *, is_base64: bool) -> str:
    if is_base64:
        return f'"{base64.b64encode(row).decode()}"'
    time.sleep(0)  # gives other requests a turn
    return f"[{', '.join(digits(row))}]"
