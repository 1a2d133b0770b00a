"""llama.cpp's tests with a server that runs already; loaded before their own modules.

What their servers are started with, such as the seed, goes with each request. Words of their model in an answer are not
looked for: that is another model's.
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any
from urllib.parse import urlsplit

import pytest

THINKING_PORT = urlsplit(os.environ.get("JUDGE_THINKING_URL", "")).port
NO_THINKING = "no server was given whose model reasons"
os.environ |= {"DEBUG_EXTERNAL": "1", "PORT": str(urlsplit(os.environ["JUDGE_URL"]).port)}
sys.modules["wget"] = types.ModuleType("wget")  # downloads models; nothing is to be downloaded


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Change the tests' own helpers, once their modules are loaded."""
    for module in {item.module for item in items if isinstance(item, pytest.Function)}:
        module.match_regex = _any_words


def _any_words(pattern: str, text: str) -> bool:
    del pattern
    return isinstance(text, str)


@pytest.fixture(autouse=True)
def the_servers_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the options of a started server with each request that generates."""
    import utils  # type: ignore[import-not-found]

    process = utils.ServerProcess
    make_request, stream = process.make_request, process.make_stream_request

    def asked(self: Any, method: str, path: str, data: Any) -> Any:
        if method != "POST" or not isinstance(data, dict) or not path.endswith(("completion", "completions")):
            return data
        options = {"seed": self.seed, "temperature": self.temperature}
        if self.n_predict and self.n_predict > 0 and not {"n_predict", "max_tokens"} & data.keys():
            options["max_tokens" if "chat" in path else "n_predict"] = self.n_predict
        return options | data

    def request(self: Any, method: str, path: str, data: Any = None, *more: Any, **named: Any) -> Any:
        if "Qwen3" in (self.chat_template_file or ""):  # a template that reasons
            self.server_port = THINKING_PORT or pytest.skip(NO_THINKING)
        return make_request(self, method, path, asked(self, method, path, data), *more, **named)

    def stream_request(self: Any, method: str, path: str, data: Any = None, *more: Any, **named: Any) -> Any:
        return stream(self, method, path, asked(self, method, path, data), *more, **named)

    monkeypatch.setattr(process, "make_request", request)
    monkeypatch.setattr(process, "make_stream_request", stream_request)
