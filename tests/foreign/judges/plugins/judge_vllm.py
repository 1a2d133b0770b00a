"""vLLM's tests with a server that runs already; loaded before their own modules.

They import parts of vLLM, torch and others, which are not installed: a stand-in replaces each. Tests of those parts,
without a server, are not run. What their servers are started with, as far as a request can ask for it, goes with each
request, and a seed.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import anthropic
import openai
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

ABSENT = {"vllm", "torch", "fastapi", "starlette", "transformers", "openai_harmony", "mcp"}
URL, THINKING_URL = os.environ["JUDGE_URL"], os.environ.get("JUDGE_THINKING_URL")
NO_THINKING = "no server was given whose model reasons"
FOLDER = Path(os.environ["JUDGE_TOKENIZER"])
TIMEOUT_S = 300
SEED = {"seed": 0}  # so that the small model says the same in every run
USAGE = {"include_usage": True, "continuous_usage_stats": True}
NOTHING: Mapping[str, Any] = types.MappingProxyType({})


class _Part(types.ModuleType):
    """A module in which every name is something."""

    __path__: list[str] = []  # noqa: RUF012 - as of any package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the packages that are not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        absent = fullname.partition(".")[0] in ABSENT
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if absent else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Part(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _part(name: str, **values: Any) -> None:
    module = _Part(name)
    vars(module).update(values)
    sys.modules[name] = module


class Tokenizer:
    """The server's tokenizer, with what the tests use of transformers'."""

    def __init__(self, *_: Any, **__: Any) -> None:
        from tokenizers import Tokenizer as Library

        self._library = Library.from_file(str(FOLDER / "tokenizer.json"))
        self._config = json.loads((FOLDER / "tokenizer_config.json").read_text("utf-8"))
        self.vocab_size = self._library.get_vocab_size()
        self.eos_token = self._config["eos_token"]
        self.eos_token_id = self._library.token_to_id(self.eos_token)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids: list[int] = self._library.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def __call__(self, text: str, add_special_tokens: bool = True, **_: Any) -> types.SimpleNamespace:
        return types.SimpleNamespace(input_ids=self.encode(text, add_special_tokens))

    def __len__(self) -> int:
        return int(self.vocab_size)

    def get_vocab(self) -> dict[str, int]:
        return dict(self._library.get_vocab())

    def decode(self, ids: int | list[int], skip_special_tokens: bool = False) -> str:
        return str(self._library.decode([ids] if isinstance(ids, int) else ids, skip_special_tokens))

    def convert_ids_to_tokens(self, ids: Any, **_: Any) -> Any:
        return self._library.id_to_token(ids) if isinstance(ids, int) else [self._library.id_to_token(i) for i in ids]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        find = self._library.token_to_id
        return find(tokens) if isinstance(tokens, str) else [find(token) for token in tokens]

    def apply_chat_template(self, messages: Any = None, *, tokenize: bool = True, **variables: Any) -> Any:
        messages = messages if messages is not None else variables.pop("conversation")
        continues = variables.pop("continue_final_message", False)
        source = variables.pop("chat_template", None) or self._template
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        text = environment.from_string(source).render(messages=messages, **self._config, **variables)
        if continues:
            last = messages[-1]["content"]
            text = text[: text.rindex(last) + len(last)]
        return self.encode(text, add_special_tokens=False) if tokenize else text

    @property
    def _template(self) -> str:
        file = FOLDER / "chat_template.jinja"
        return file.read_text("utf-8") if file.exists() else str(self._config["chat_template"])


class RemoteOpenAIServer:
    """The running server, for tests that would start vLLM."""

    DUMMY_API_KEY = "none"
    uds = None

    def __init__(self, _model: str = "", args: Sequence[str] = (), **_: Any) -> None:
        needed = THINKING_URL if "--reasoning-parser" in args else URL
        self.url_root = needed or pytest.skip(NO_THINKING)
        self.host, self.port = "127.0.0.1", int(self.url_root.rpartition(":")[2])
        as_ids = {"return_tokens_as_token_ids": True} if "--return-tokens-as-token-ids" in args else {}
        self._more = SEED | as_ids
        self._more_of_streams = {"stream_options": USAGE} if "--enable-force-include-usage" in args else {}

    def __enter__(self) -> RemoteOpenAIServer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def url_for(self, *parts: str) -> str:
        return "/".join((self.url_root, *parts))

    def get_client(self, **options: Any) -> Any:
        return _client(openai.OpenAI, f"{self.url_root}/v1", options, self._more, self._more_of_streams)

    def get_async_client(self, **options: Any) -> Any:
        return _client(openai.AsyncOpenAI, f"{self.url_root}/v1", options, self._more, self._more_of_streams)

    def get_client_anthropic(self, **options: Any) -> Any:
        return _client(anthropic.Anthropic, self.url_root, options)

    def get_async_client_anthropic(self, **options: Any) -> Any:
        return _client(anthropic.AsyncAnthropic, self.url_root, options)


def _client(
    kind: Any,
    url: str,
    options: dict[str, Any],
    more: Mapping[str, Any] = NOTHING,
    more_of_streams: Mapping[str, Any] = NOTHING,
) -> Any:
    """Return a client that sends `more` with each request that generates, unless the test sets it."""
    client = kind(**{"base_url": url, "api_key": "none", "timeout": TIMEOUT_S} | options)
    build = client._build_request

    def build_request(asked: Any, **named: Any) -> Any:
        if asked.url.endswith(("/completions", "/responses")) and isinstance(asked.json_data, dict):
            of_stream = more_of_streams if asked.json_data.get("stream") else NOTHING
            asked.json_data = {**more, **of_stream, **asked.json_data}
        return build(asked, **named)

    client._build_request = build_request
    return client


class ModelConfig:
    """vLLM's description of a model, as far as the tests read it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def get_vocab_size(self) -> int:
        return len(Tokenizer())


def _install() -> None:
    sys.meta_path.insert(0, _Absent())
    _part("vllm.tokenizers", get_tokenizer=Tokenizer)
    _part("transformers", AutoTokenizer=types.SimpleNamespace(from_pretrained=Tokenizer))
    _part("vllm.config", ModelConfig=ModelConfig)
    _part("torch", long=int, iinfo=lambda _: types.SimpleNamespace(min=-(2**63), max=2**63 - 1))
    _part("tests.utils", RemoteOpenAIServer=RemoteOpenAIServer, ROCM_EXTRA_ARGS=[], ROCM_ENV_OVERRIDES={})


_install()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that ask a server."""
    gone = [item for item in items if isinstance(item, pytest.Function) and not _asks_a_server(item)]
    config.hook.pytest_deselected(items=gone)
    items[:] = [item for item in items if item not in gone]


def _asks_a_server(item: pytest.Function) -> bool:
    has_fixture = any("server" in name or "client" in name for name in item.fixturenames)
    return has_fixture or "RemoteOpenAIServer" in item.function.__code__.co_names
