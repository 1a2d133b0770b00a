"""Which shape the errors under a path have."""

from __future__ import annotations

import pytest

from api.error_shapes import ANTHROPIC, OLLAMA, OPENAI, SLM, ErrorShape, shape_of


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/", SLM),
        ("/slm/generate", SLM),
        ("/healthz", SLM),
        ("/health", SLM),
        ("/tokenizer", SLM),
        ("/tokenize", OPENAI),
        ("/v1/chat/completions", OPENAI),
        ("/v1/messages_of", OPENAI),
        ("/v1/messages", ANTHROPIC),
        ("/v1/messages/count_tokens", ANTHROPIC),
        ("/api/chat", OLLAMA),
        ("/api/nothing", OLLAMA),
        ("/apis", SLM),
    ],
)
def test_the_shape_follows_from_the_path(path: str, shape: ErrorShape) -> None:
    assert shape_of(path) is shape
