"""Produces the visible output of a sequence: holds back text that can still change, and reports each token once."""

from __future__ import annotations

from dataclasses import replace

from common.errors import InternalError, SLMError
from common.jobs.logprobs import ScoredToken, TokenLogprobs
from worker.engine.output.call_marker import CallDetector
from worker.engine.output.detokenizer import Detokenizer, TokenDecoder
from worker.engine.output.stopping import StopCriteria, StopStringMatcher
from worker.engine.sequence import FinishReason, SampledToken, Sequence, SequenceOutput


class OutputStream:
    """Converts a sequence's tokens into its outputs and decides when it ends.

    The state depends only on the tokens, so a sequence that is continued elsewhere gets the same state by replaying its
    committed tokens.
    """

    def __init__(self, sequence: Sequence, decoder: TokenDecoder, criteria: StopCriteria) -> None:
        """Replay the tokens that the sequence already has.

        Raises:
            InternalError: its `emitted_text` does not match its `output_ids`.
        """
        self.sequence = sequence
        self.finish_reason: FinishReason | None = None
        self._decoder = decoder
        self._criteria = criteria
        self._calls = None if sequence.calls is None else CallDetector(sequence.calls, sequence.reasoning)
        self._detokenizer = Detokenizer(decoder, sequence.prompt_ids, _shown_ids(sequence))
        self._matcher = StopStringMatcher(sequence.params.stop)
        self._unsent_ids: list[int] = []
        self._unsent_text = ""
        self._unsent_logprobs: list[TokenLogprobs] = []
        self._replay()

    def append(self, token: SampledToken) -> None:
        """Append the newest token; `decide` then says whether the sequence ends with it."""
        if token.logprob is not None:
            self._unsent_logprobs.append(self._logprobs(token, token.logprob))
        self._unsent_ids.append(token.token_id)
        self._append_id(token.token_id)
        self._constrain([token.token_id])

    def decide(self, timeout_s: float = 0.0) -> bool:
        """Set `finish_reason` if the sequence has ended; return False if this is not known within `timeout_s`.

        Raises:
            SLMError: the sequence's constraint cannot follow its tokens.
        """
        sequence = self.sequence
        if self.finish_reason is None and sequence.is_undecided:
            sequence.is_undecided = sequence.constraint is not None and not sequence.constraint.is_known(timeout_s)
        if sequence.is_undecided:
            return False
        if (reason := self._criteria.check(sequence)) is not None:
            self.finish(reason)
        return True

    def _constrain(self, token_ids: list[int]) -> None:
        """Advance the constraint by the tokens, unless the sequence has ended."""
        if self.sequence.constraint is not None and self.finish_reason is None:
            if token_ids:
                self.sequence.constraint.advance(token_ids)
            self.sequence.is_undecided = True

    def _append_id(self, token_id: int) -> None:
        self.sequence.output_ids.append(token_id)
        if self._criteria.is_end(self.sequence, token_id):
            self.finish(FinishReason.STOP)
        else:
            self._read(self._detokenizer.push(token_id))

    def _logprobs(self, token: SampledToken, logprob: float) -> TokenLogprobs:
        scored = [(token.token_id, logprob), *token.top]
        chosen, *top = [ScoredToken(token_id, self._decoder.token_bytes(token_id), value) for token_id, value in scored]
        return TokenLogprobs(chosen, tuple(top))

    def finish(self, reason: FinishReason) -> None:
        """End the sequence with its newest token, if it has not ended yet; text that was held back becomes visible."""
        if self.finish_reason is None:
            self.finish_reason = reason
            self._read(self._detokenizer.flush())

    def take(self) -> SequenceOutput | None:
        """Return the visible output since the last call; None if there is no token or no text to show yet."""
        num_held = 0 if self._is_in_calls else self._matcher.num_held
        num_visible = len(self._unsent_text) - num_held
        return self._output(num_visible) if num_visible > 0 and self._unsent_ids else None

    def take_final(self, error: SLMError | None = None) -> SequenceOutput:
        """Return the sequence's last output: everything that has not been shown, and why it ended."""
        output = self._output(len(self._unsent_text), self.finish_reason, error)
        return replace(output, prompt_logprobs=self._prompt_logprobs())

    def _prompt_logprobs(self) -> tuple[TokenLogprobs, ...] | None:
        sequence = self.sequence
        if sequence.params.prompt_logprobs is None:
            return None
        first = SampledToken(sequence.prompt_ids[0], 0.0)
        return tuple(self._logprobs(one, one.logprob or 0.0) for one in (first, *sequence.prompt_scores))

    def _output(
        self, num_visible: int, finish_reason: FinishReason | None = None, error: SLMError | None = None
    ) -> SequenceOutput:
        text, self._unsent_text = self._unsent_text[:num_visible], self._unsent_text[num_visible:]
        token_ids, self._unsent_ids = tuple(self._unsent_ids), []
        logprobs, self._unsent_logprobs = tuple(self._unsent_logprobs), []
        return SequenceOutput(
            sequence_id=self.sequence.sequence_id,
            token_ids=token_ids,
            text=text,
            num_prompt_tokens=self.sequence.num_prompt_tokens,
            num_output_tokens=self.sequence.num_output_tokens,
            finish_reason=finish_reason,
            error=error,
            logprobs=None if self.sequence.params.logprobs is None else logprobs,
            stop_string=self._matcher.found,
            num_cached_tokens=self.sequence.num_cached_tokens or 0,
        )

    def _read(self, text: str) -> None:
        """Add decoded text; a stop string ends the sequence and is removed together with all text after it.

        The text of the first `min_new_tokens` tokens cannot be part of a stop string, nor can a call of a tool.
        """
        if self._calls is not None:
            self._calls.read(text)
        must_continue = self.sequence.num_output_tokens <= self.sequence.params.min_new_tokens
        begin = None if must_continue or self._is_in_calls else self._matcher.feed(text)
        if begin is None:
            self._unsent_text += text
            return
        self._unsent_text = (self._unsent_text + text)[: len(self._unsent_text) + begin]
        self.finish_reason = FinishReason.STOP

    @property
    def _is_in_calls(self) -> bool:
        return self._calls is not None and self._calls.has_begun

    def _replay(self) -> None:
        """Rebuild the state of an earlier attempt after its committed tokens."""
        committed, self.sequence.output_ids = self.sequence.output_ids, []
        for token_id in committed:
            if self.finish_reason is None:
                self._append_id(token_id)
        self._constrain(committed)
        if not self._unsent_text.startswith(self.sequence.emitted_text):
            raise InternalError("The text already sent does not belong to the tokens already committed.")
        self._unsent_text = self._unsent_text.removeprefix(self.sequence.emitted_text)


def _shown_ids(sequence: Sequence) -> frozenset[int]:
    """Return the special tokens that are a part of the answer's text."""
    marker_id = None if sequence.calls is None else sequence.calls.token_id
    of_reasoning = frozenset[int]() if sequence.reasoning is None else sequence.reasoning.token_ids
    return of_reasoning if marker_id is None else of_reasoning | {marker_id}
