"""What the helper's children do for the engine: programs that clients sent, or that came with a model or adapter."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from llguidance import LLTokenizer

from worker.engine.grammar import Vocabulary
from worker.engine.grammar_process import serve_grammar
from worker.helper.child import serve_tasks

SERVICES = "worker.engine.untrusted:Untrusted"
GRAMMAR = "grammar"
VOCABULARY = "vocabulary"
PROGRAMS = "programs"
RENDER_CHAT = "render_chat"
CHECK_ADAPTER = "check_adapter"


class Untrusted:
    """The `helper.messages.Services`. Made in the helper process, never in the worker."""

    _tokenizer: LLTokenizer

    def configure(self, name: str, value: Any) -> None:
        """Learn the model's `VOCABULARY`, or that there will be `PROGRAMS` to run, whose libraries take long to import.

        Every child has then what the helper has imported.
        """
        if name == VOCABULARY:
            self._tokenizer = Vocabulary(**value).known_to_library()
        else:
            import_module("transformers.utils.chat_template_utils")
            import_module("SLMInit.adapter_check")

    def serve(self, service: str, link: Connection) -> None:
        """Be a process of that kind."""
        if service == GRAMMAR:
            serve_grammar(link, self._tokenizer)
        else:
            serve_tasks(link, _run)


def _run(task: str, args: Any) -> Any:
    return {RENDER_CHAT: _render_chat, CHECK_ADAPTER: _check_adapter}[task](args)


def _render_chat(args: Any) -> dict[str, str]:
    from jinja2 import TemplateError

    from SLMInit.chat_template import ChatTemplate, render_chat

    try:
        return {"text": render_chat(ChatTemplate(args["source"], args["variables"]), args["messages"])}
    except TemplateError as err:
        return {"refusal": str(err)}


def _check_adapter(args: Any) -> dict[str, Any]:
    from SLMInit.adapter_check import AdapterError, check_adapter

    shapes = {name: tuple(shape) for name, shape in args["shapes"].items()}
    try:
        found = asdict(check_adapter(Path(args["path"]), args["base_name"], shapes))
    except AdapterError as err:
        return {"refusal": str(err)}
    return found | {name: sorted(found[name]) for name in ("embeddings", "base_layers")} | {"path": args["path"]}
