"""Creates constraints from grammars, with one process for each grammar that is or was recently in use."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from concurrent.futures import Future
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from common.errors import InvalidRequest, Overloaded, SLMError
from common.jobs.sampling import Grammar
from worker.engine.grammar.llguidance_grammar import Vocabulary
from worker.engine.grammar.process import GRAMMAR, VOCABULARY
from worker.engine.grammar.process_constraint import GrammarConstraint
from worker.helper.client import Child, Helper, HelperClosed
from worker.helper.given_up import GivenUp, IsGivenUp, never, wait_for
from worker.helper.limits import OverLimit
from worker.helper.messages import send, send_descriptor

if TYPE_CHECKING:
    from worker.engine.output.detokenizer import TokenDecoder

MAX_CACHED = 16  # recently used grammars that keep their processes for the next answer
MAX_REFUSALS = 1024  # refusals that are remembered


class GrammarCompiler:
    """Creates constraints from grammars, for the tokens of one model. Thread-safe.

    The first grammar takes an extra 0.5 s, to send the vocabulary to the helper.

    Args:
        helper: its processes compile and follow the grammars.
        decoder: decodes the tokens to bytes.
        vocab_size: length of a row of logits.
        eos_token_ids: tokens that end an answer.
    """

    def __init__(self, helper: Helper, decoder: TokenDecoder, vocab_size: int, eos_token_ids: frozenset[int]) -> None:
        self._helper = helper
        self._decoder = decoder
        self._vocab_size = vocab_size
        self._end_ids = sorted(token_id for token_id in eos_token_ids if token_id < vocab_size)
        self._name = uuid.uuid4().hex  # of the vocabulary, in the helper
        self._vocabulary_lock = threading.Lock()
        self._is_vocabulary_sent = False
        self._lock = threading.Lock()
        # Both in LRU order, the most recently used last:
        self._processes: OrderedDict[Grammar, Future[_Process]] = OrderedDict()
        self._refusals: OrderedDict[Grammar, InvalidRequest] = OrderedDict()

    def prepare(self, grammar: Grammar, is_given_up: IsGivenUp = never) -> None:
        """Compile the grammar, so that `compile` finds it. Takes milliseconds, or seconds for the largest grammars.

        Raises as `compile`.
        """
        self._process(grammar, is_given_up)

    def compile(self, grammar: Grammar, is_given_up: IsGivenUp = never) -> GrammarConstraint:
        """Return a constraint in its initial state.

        Raises:
            InvalidRequest: the grammar is invalid, too complex, impossible to satisfy, or uses features that the
                library does not support; `param` is its field in the request.
            Overloaded: the process did not get enough CPU time in time.
            GivenUp: `is_given_up` became true first, or the helper was closed.
        """
        while True:
            process = self._process(grammar, is_given_up)
            try:
                return GrammarConstraint(process.child, process.open(), grammar.field)
            except OSError:  # the process has died while following another answer
                self._forget(grammar, process)

    def _process(self, grammar: Grammar, is_given_up: IsGivenUp) -> _Process:
        """Return the grammar's process. One thread starts it, and others wait for that."""
        while True:
            with self._lock:
                self._refuse_again(grammar)
                mine: Future[_Process] | None = None
                if (future := self._processes.get(grammar)) is None:
                    future = mine = self._processes[grammar] = Future()
                self._processes.move_to_end(grammar)
            if mine is not None:
                self._start_for_all(grammar, mine, is_given_up)
            try:
                return wait_for(future, is_given_up)
            except HelperClosed:
                raise
            except GivenUp:
                if is_given_up():
                    raise  # otherwise another job, which had started the process, was given up

    def _refuse_again(self, grammar: Grammar) -> None:
        if (refusal := self._refusals.get(grammar)) is not None:
            self._refusals.move_to_end(grammar)
            raise InvalidRequest(refusal.message, param=refusal.param)

    def _start_for_all(self, grammar: Grammar, future: Future[_Process], is_given_up: IsGivenUp) -> None:
        try:
            process = self._started(grammar, is_given_up)
        except BaseException as err:  # passed on to all threads that wait for it
            with self._lock:
                self._processes.pop(grammar, None)
                if isinstance(err, InvalidRequest):
                    _remember(self._refusals, grammar, err)
            future.set_exception(err)
        else:
            future.set_result(process)
            with self._lock:
                self._evict_old()

    def _started(self, grammar: Grammar, is_given_up: IsGivenUp) -> _Process:
        if not self._end_ids:
            raise _unusable(grammar, "the model has no token to end an answer with")
        with self._helper.in_use():
            self._send_vocabulary()
            child = self._helper.fork(GRAMMAR + self._name)
            try:
                send(child.link, grammar.to_dict())
                reply: dict[str, Any] = child.receive(is_given_up)
            except (EOFError, OSError):
                raise _too_much(grammar, self._helper.end(child)) from None
            except GivenUp:
                self._helper.end(child)
                raise
        if "error" in reply:
            raise SLMError.from_dict(reply["error"])
        return _Process(child)

    def close(self) -> None:
        """Release the kept grammars and the vocabulary. Answers in progress continue."""
        with self._lock:
            started, self._processes = self._processes, OrderedDict()
        with self._vocabulary_lock:
            if self._is_vocabulary_sent:
                self._helper.forget(VOCABULARY + self._name)
        for future in started.values():
            if future.done() and future.exception() is None:
                future.result().close()

    def _send_vocabulary(self) -> None:
        with self._vocabulary_lock:
            if not self._is_vocabulary_sent:
                self._helper.configure(VOCABULARY + self._name, self._vocabulary()._asdict())
                self._is_vocabulary_sent = True

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(
            tokens=[self._decoder.token_bytes(token_id).decode("latin-1") for token_id in range(self._vocab_size)],
            special_ids=sorted(self._decoder.special_token_ids.union(self._end_ids)),
            end_ids=self._end_ids,
        )

    def _evict_old(self) -> None:
        started = [(grammar, future.result()) for grammar, future in self._processes.items() if future.done()]
        for grammar, process in started[: max(0, len(started) - MAX_CACHED)]:
            del self._processes[grammar]
            process.close()

    def _forget(self, grammar: Grammar, process: _Process) -> None:
        with self._lock:
            future = self._processes.get(grammar)
            if future is not None and future.done() and future.result() is process:
                del self._processes[grammar]
        process.close()


class _Process:
    """A process that holds a compiled grammar. It ends when it and all its answers have been closed."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._lock = threading.Lock()

    def open(self) -> Connection:
        """Return a pipe to it for one answer. Raises `OSError` if it has ended."""
        ours, theirs = Pipe()
        with theirs, self._lock:
            send(self.child.link, "open")
            send_descriptor(self.child.link, theirs.fileno())
        return ours

    def close(self) -> None:
        """Accept no more answers."""
        with self._lock:
            self.child.link.close()


def _remember(refusals: OrderedDict[Grammar, InvalidRequest], grammar: Grammar, refusal: InvalidRequest) -> None:
    refusals[grammar] = refusal
    if len(refusals) > MAX_REFUSALS:
        refusals.popitem(last=False)


def _too_much(grammar: Grammar, reason: OverLimit | Overloaded) -> SLMError:
    return reason if isinstance(reason, Overloaded) else _unusable(grammar, f"it {reason} to compile")


def _unusable(grammar: Grammar, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{grammar.field} cannot be used: {reason}", param=grammar.field)
