"""What the helper's children do for the engine: programs that clients sent, or that came with a model or adapter."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

from llguidance import LLTokenizer

from worker.engine.grammar import Vocabulary
from worker.engine.grammar_process import serve_grammar

SERVICES = "worker.engine.untrusted:Untrusted"
GRAMMAR = "grammar"
VOCABULARY = "vocabulary"


class Untrusted:
    """The `helper.messages.Services`. Made in the helper process, never in the worker."""

    _tokenizer: LLTokenizer

    def configure(self, name: str, value: Any) -> None:
        """Learn the model's `VOCABULARY`."""
        if name == VOCABULARY:
            self._tokenizer = Vocabulary(**value).known_to_library()

    def serve(self, service: str, link: Connection) -> None:
        """Be a process of that kind."""
        if service == GRAMMAR:
            serve_grammar(link, self._tokenizer)
