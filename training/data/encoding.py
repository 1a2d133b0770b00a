"""From examples to the token ids that the model is trained on, and which of them the loss counts.

A prompt is encoded as in serving, where the model continues a complete prompt; the response after it on its own, up to
the token that ends it. The name of a special token in a dataset is plain text, as it is in a client's prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from training.data.examples import Conversation, Example, Message, Preference


class Texts(Protocol):
    """Encodes texts; `models.text.text_encoder.TextEncoder` is one."""

    def part_ids(self, text: str) -> list[int]:
        """Return the ids of a text without start and end tokens."""
        ...


class Conversations(Protocol):
    """Encodes conversations; `models.text.conversation.ConversationEncoder` is one."""

    @property
    def texts(self) -> Texts:
        """The encoder of texts."""
        ...

    def encode(self, messages: list[dict[str, Any]]) -> tuple[str, list[int]]:
        """Return text and ids of a conversation with the header of the assistant's next turn."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to train on. `loss` says for each token whether the loss counts it; both are equally long."""

    ids: list[int]
    loss: list[bool]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """A prompt and two continuations, as token ids."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


class Sized(NamedTuple):
    """The size of an example: how many sequences, tokens of the longest, all tokens, tokens that the loss counts."""

    rows: int
    longest: int
    total: int
    learned: int


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes examples with one tokenizer and one chat template.

    Its methods raise `TemplateError` if the template rejects the messages and `UnspellableText` if the tokenizer has
    no tokens for a text.

    Args:
        conversations: encodes prompts.
        end_id: the token that ends a response.
        decode: from token ids to text, with the names of special tokens; only needed for `render`.
    """

    conversations: Conversations
    end_id: int
    decode: Callable[[list[int]], str] = str

    def rows(self, conversation: Conversation) -> list[Row]:
        """Return the sequences of a conversation.

        One sequence has all turns if the template writes earlier turns as the model wrote them. A template that writes
        them differently, such as one that drops earlier reasoning, gives one sequence for each learned turn.
        """
        rows: list[Row] = []
        for index, message in enumerate(conversation.messages):
            if message.is_learned:
                self._add(rows, self.prompt_ids(conversation.messages[:index]), self.response_ids(message.content))
        return rows

    def preference(self, preference: Preference) -> PreferenceRow:
        """Return a preference pair as token ids."""
        prompt = self.prompt_ids(preference.prompt)
        return PreferenceRow(prompt, self.response_ids(preference.chosen), self.response_ids(preference.rejected))

    def size(self, example: Example) -> Sized:
        """Return the size of an example."""
        if isinstance(example, Conversation):
            if not any(message.is_learned for message in example.messages[:-1]):  # only an answer at the end: quicker
                prompt, learned = len(self.prompt_ids(example.prompt)), len(self.response_ids(example.response))
                return Sized(1, prompt + learned, prompt + learned, learned)
            rows = self.rows(example)
            lengths = [len(row) for row in rows]
            return Sized(len(rows), max(lengths), sum(lengths), sum(sum(row.loss) for row in rows))
        one = self.preference(example)
        learned = len(one.chosen) + len(one.rejected)
        return Sized(1, len(one), 2 * len(one.prompt) + learned, learned)

    def render(self, example: Example) -> list[list[tuple[str, bool]]]:
        """Return the sequences as text in parts, each with whether the loss counts it.

        A preference pair gives two sequences, that of the better response first.
        """
        if isinstance(example, Conversation):
            return [self._parts(row) for row in self.rows(example)]
        one = self.preference(example)
        learned = (one.chosen, one.rejected)
        return [[(self.decode(one.prompt), False), (self.decode(answer), True)] for answer in learned]

    def _parts(self, row: Row) -> list[tuple[str, bool]]:
        spans = groupby(zip(row.ids, row.loss, strict=True), key=lambda pair: pair[1])
        return [(self.decode([token for token, _ in span]), loss) for loss, span in spans]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a prompt, as in serving."""
        return self.conversations.encode([one.to_dict() for one in messages])[1]

    def response_ids(self, text: str) -> list[int]:
        """Return the ids of a response with the token that ends it."""
        return [*self.conversations.texts.part_ids(text), self.end_id]

    @staticmethod
    def _add(rows: list[Row], prompt: list[int], response: list[int]) -> None:
        loss = [False] * len(prompt)
        if rows and prompt[: len(rows[-1])] == rows[-1].ids:
            before = rows.pop().loss
            loss[: len(before)] = before
        rows.append(Row(prompt + response, loss + [True] * len(response)))
