"""Converts log probabilities to OpenAI's two forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.schemas.openai.chat import ChatLogprobs, ChatScored, ChatToken, PromptLogprob
from api.schemas.openai.completions import CompletionLogprobs
from common.jobs.logprobs import ScoredToken, TokenLogprobs


@dataclass(frozen=True, slots=True)
class ScoredTokens:
    """Tokens of an answer with their log probabilities; `offsets` are their positions in the text, in characters.

    With `as_ids`, ids replace the texts of tokens.
    """

    tokens: Sequence[TokenLogprobs]
    offsets: Sequence[int] = ()
    as_ids: bool = False

    def for_chat(self) -> ChatLogprobs:
        """Return the `logprobs` of a chat completion's choice."""
        tokens = [
            ChatToken(**self._scored(one.chosen), top_logprobs=[self._scored(each) for each in one.top])
            for one in self.tokens
        ]
        return ChatLogprobs(content=tokens, refusal=None)

    def for_completion(self, *, is_first_unknown: bool = False) -> CompletionLogprobs:
        """Return the `logprobs` of a completion's choice. The alternatives include the chosen token, as in OpenAI's.

        Args:
            is_first_unknown: whether the first token is the prompt's, which has no log probability.
        """
        logprobs: list[float | None] = [one.chosen.logprob for one in self.tokens]
        tops: list[dict[str, float] | None] = [
            {self._name(each): each.logprob for each in (one.chosen, *one.top)} for one in self.tokens
        ]
        if is_first_unknown:
            logprobs[0] = tops[0] = None
        return CompletionLogprobs(
            tokens=[self._name(one.chosen) for one in self.tokens],
            token_logprobs=logprobs,
            top_logprobs=tops,
            text_offset=list(self.offsets),
        )

    def _scored(self, token: ScoredToken) -> ChatScored:
        return ChatScored(token=self._name(token), logprob=token.logprob, bytes=list(token.token))

    def _name(self, token: ScoredToken) -> str:
        return f"token_id:{token.token_id}" if self.as_ids else token.text


def scored_tokens(wire: Sequence[Any]) -> list[TokenLogprobs]:
    """Convert tokens in the wire form of events."""
    return [TokenLogprobs.from_wire(one) for one in wire]


def cut_top(wire: Sequence[Any], num_top: int) -> list[Any]:
    """Return tokens in the wire form of events, with at most `num_top` alternatives each."""
    return [[*chosen, top[:num_top]] for *chosen, top in wire]


def prompt_logprobs(wire: Sequence[Any], num_top: int) -> list[dict[str, PromptLogprob] | None]:
    """Return vLLM's `prompt_logprobs` from tokens in the wire form of events; null for the first token."""
    tokens = scored_tokens(cut_top(wire, num_top))
    return [None, *(_by_id(one) for one in tokens[1:])]


def _by_id(one: TokenLogprobs) -> dict[str, PromptLogprob]:
    """Return the token and its alternatives by id. The rank of a token that is not among these is not known."""
    ranks = {each.token_id: rank for rank, each in enumerate(one.top, 1)}
    return {
        str(each.token_id): PromptLogprob(logprob=each.logprob, rank=ranks.get(each.token_id), decoded_token=each.text)
        for each in (one.chosen, *one.top)
    }
