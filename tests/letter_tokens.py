"""An encoder of datasets for which each character is a token, and the prompt is written like a script of a play."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from training.data import Encoder

END = "\x03"


class _Texts:
    def part_ids(self, text: str) -> list[int]:
        return list(map(ord, text))


class Play:
    """Conversations as `USER: Hi` lines. The role `system` is only accepted first."""

    texts = _Texts()

    def encode(self, messages: list[dict[str, Any]]) -> tuple[str, list[int]]:
        if any(one["role"] == "system" for one in messages[1:]):
            raise TemplateError("System messages must come first")
        ends = {"assistant": END}
        lines = [f"{one['role'].upper()}: {one['content']}{ends.get(one['role'], '')}\n" for one in messages]
        text = "".join(lines) + "ASSISTANT: "
        return text, self.texts.part_ids(text)


def letter_encoder() -> Encoder:
    return Encoder(Play(), ord(END), lambda ids: "".join(map(chr, ids)))
