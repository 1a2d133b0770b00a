"""Finds the chat template of a base model or an adapter, identically in training and serving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.text.prompt_template import INSTRUCTION_TEMPLATE

TEMPLATE_FILE = "chat_template.jinja"


def chat_template(tokenizer: Any, adapter_dir: Path | None) -> str:
    """Return the template for conversations: the adapter's own, else the tokenizer's, else the one for training."""
    own = adapter_dir and read_chat_template(adapter_dir)
    return own or _default_template(tokenizer.chat_template) or INSTRUCTION_TEMPLATE


def read_chat_template(folder: Path) -> str | None:
    """Return the chat template saved with a tokenizer, from either of the two places that transformers uses."""
    if (file := folder / TEMPLATE_FILE).is_file():
        return file.read_text(encoding="utf-8")
    if (file := folder / "tokenizer_config.json").is_file():
        return _default_template(json.loads(file.read_text(encoding="utf-8")).get("chat_template"))
    return None


def _default_template(templates: str | dict[str, str] | list[dict[str, str]] | None) -> str | None:
    """Return the template; if there are several, the one for plain conversations."""
    if isinstance(templates, list):
        templates = {item["name"]: item["template"] for item in templates}
    return templates.get("default") if isinstance(templates, dict) else templates
