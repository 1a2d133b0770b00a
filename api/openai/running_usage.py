"""Counts the tokens of a request while it is streamed, for vLLM's `continuous_usage_stats`."""

from __future__ import annotations

from api.schemas.generated import TokenCounts
from common.jobs.events import Event, EventType, prompt_ids


class RunningUsage:
    """The numbers of tokens so far, of all choices together; a prompt counts once for its `per_prompt` choices."""

    def __init__(self, per_prompt: int) -> None:
        self._per_prompt = per_prompt
        self._prompts: dict[int, int] = {}
        self._completion = 0

    def take(self, index: int, event: Event) -> None:
        """Count the tokens of an event of a choice."""
        if (prompt := prompt_ids([event])) is not None:
            self._prompts[index // self._per_prompt] = len(prompt)
        if event.type is EventType.TOKEN:
            self._completion += len(event.data["ids"])

    def counts(self) -> TokenCounts:
        """Return the numbers so far. A prompt counts 0 until it has been read."""
        prompt = sum(self._prompts.values())
        return TokenCounts(
            prompt_tokens=prompt, completion_tokens=self._completion, total_tokens=prompt + self._completion
        )
