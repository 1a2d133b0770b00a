"""Which tokens a sequence holds: what the penalties are counted from."""

from __future__ import annotations

from array import array


class TokenHistory:
    """Each token of prompt and answer once, in the order of its first place, and how often the answer holds it.

    It grows with the sequence, so that a step costs no more in a long answer than in a short one.
    """

    def __init__(self) -> None:
        self.ids = array("q")
        self.counts = array("d")  # in the answer; 0: the token is in the prompt only
        self._index: dict[int, int] = {}  # in both arrays, by token
        self._num_answer_ids_read = 0

    def read(self, prompt_ids: list[int], output_ids: list[int]) -> None:
        """Take in what has come since the last call; the lists must only have grown."""
        if not self._index:
            for token_id in prompt_ids:
                self._find(token_id)
        for token_id in output_ids[self._num_answer_ids_read :]:
            self.counts[self._find(token_id)] += 1.0
        self._num_answer_ids_read = len(output_ids)

    def _find(self, token_id: int) -> int:
        """The token's index; it is entered if it is new."""
        index = self._index.setdefault(token_id, len(self._index))
        if index == len(self.ids):
            self.ids.append(token_id)
            self.counts.append(0.0)
        return index
