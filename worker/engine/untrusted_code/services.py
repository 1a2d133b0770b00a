"""The services of the helper's children: run untrusted code from clients, models and adapters for the engine."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from llguidance import LLTokenizer
from tokenizers import Tokenizer

from models.text.template_engine import load_alone
from worker.engine.grammar.llguidance_grammar import Vocabulary
from worker.engine.grammar.process import GRAMMAR, VOCABULARY, serve_grammar
from worker.helper.child import serve_tasks

SERVICES = "worker.engine.untrusted_code.services:UntrustedServices"
PROGRAMS = "programs"
RENDER_CHAT = "render_chat"
CHECK_ADAPTER = "check_adapter"
UNPACK_ADAPTER = "unpack_adapter"
ENCODE = "encode"
CHECK_DATASET = "check_dataset"
TOKENIZER = "tokenizer"  # followed by a name, because adapters may have their own tokenizers


class UntrustedServices:
    """Implements `helper.messages.Services`. Created in the helper process, never in the worker."""

    def __init__(self) -> None:
        self._vocabularies: dict[str, LLTokenizer] = {}
        self._tokenizers: dict[str, Tokenizer] = {}

    def configure(self, name: str, value: Any) -> None:
        """Set a `VOCABULARY` or `TOKENIZER` (None: drop it), or import the modules for `PROGRAMS`.

        Children inherit these imports, which take long.
        """
        if value is None:
            self._vocabularies.pop(name.removeprefix(VOCABULARY), None)
            self._tokenizers.pop(name.removeprefix(TOKENIZER), None)
        elif name.startswith(VOCABULARY):
            self._vocabularies[name.removeprefix(VOCABULARY)] = Vocabulary(**value).to_library()
        elif name.startswith(TOKENIZER):
            self._tokenizers[name.removeprefix(TOKENIZER)] = Tokenizer.from_str(value)
        elif name == PROGRAMS:
            load_alone()
            import_module("models.adapter.check")
            import_module("training.data")

    def serve(self, service: str, link: Connection) -> None:
        """Run as a child for that service."""
        if service.startswith(GRAMMAR):
            serve_grammar(link, self._vocabularies[service.removeprefix(GRAMMAR)])
        else:
            serve_tasks(link, self._run)

    def _run(self, task: str, args: Any) -> Any:
        tasks = {
            RENDER_CHAT: _render_chat,
            CHECK_ADAPTER: _check_adapter,
            UNPACK_ADAPTER: _unpack_adapter,
            ENCODE: self._encode,
            CHECK_DATASET: self._check_dataset,
        }
        return tasks[task](args)

    def _encode(self, args: Any) -> dict[str, Any]:
        from models.errors import UnspellableText
        from models.text.text_encoder import encode_with

        tokenizer = self._tokenizers[args["tokenizer"]]
        try:
            return {"ids": encode_with(tokenizer, args["text"], with_tokens_around=args["with_tokens_around"])}
        except UnspellableText as err:
            return {"refusal": str(err)}

    def _check_dataset(self, args: Any) -> dict[str, Any]:
        from models.text.text_encoder import FastEncoding
        from worker.engine.untrusted_code.datasets import DatasetToCheck, check_dataset

        is_fast = "tokenizer" in args
        encoding = FastEncoding(self._tokenizers[args["tokenizer"]], args["secret_names"]) if is_fast else None
        return check_dataset(DatasetToCheck(**args["wanted"]), encoding)


def _render_chat(args: Any) -> dict[str, str]:
    from jinja2 import TemplateError

    from models.text.chat_template import ChatTemplate, render_chat

    try:
        return {"text": render_chat(ChatTemplate(args["source"], args["variables"]), args["messages"])}
    except TemplateError as err:
        return {"refusal": str(err)}


def _check_adapter(args: Any) -> dict[str, Any]:
    from models.adapter.check import AdapterError, check_adapter

    shapes = {name: tuple(shape) for name, shape in args["shapes"].items()}
    try:
        found = asdict(check_adapter(Path(args["path"]), args["base_name"], shapes))
    except AdapterError as err:
        return {"refusal": str(err)}
    return found | {name: sorted(found[name]) for name in ("embeddings", "base_layers")} | {"path": args["path"]}


def _unpack_adapter(args: Any) -> dict[str, str]:
    from models.adapter.archive import unpack_adapter
    from models.errors import AdapterError

    try:
        return {"folder": str(unpack_adapter(Path(args["archive"]), Path(args["target"]), args["max_bytes"]))}
    except AdapterError as err:
        return {"refusal": str(err)}
