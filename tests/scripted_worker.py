"""A worker without a model, in a thread: it claims jobs like a real worker and plays a script for each.

    with ScriptedWorker(redis, answer("Once ", "upon ", "a time.")) as worker:
        app = create_app(settings, redis=redis, dispatch=worker.dispatch, subscriber=subscriber)

It finds its jobs in Redis, so it also serves an API that runs in another process.
"""

from __future__ import annotations

import itertools
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from redis import Redis

from common.adapters.names import public_name
from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.adapters.uploads import Uploads
from common.embedding.embedders import EmbedderReport, Embedders
from common.embedding.task import EmbedParams, EmbedResult
from common.errors import InvalidRequest, PromptTooLong, SLMError
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events, prompts
from common.jobs.events import AnswerSyntax, Event
from common.jobs.job import GenerateParams, GenerateResult, JobKind, JobState, Lane, TokenizeResult, Wanted
from common.jobs.logprobs import TokenLogprobs
from common.jobs.prompts import Conversation, Prompt, RawText, TokenIds
from common.jobs.reasoning import Reasoning
from common.jobs.store import Claim, JobStore, WakeUp
from common.owners.files import FileStore
from common.redis import keys
from common.training.trainers import TrainerReport, Trainers
from tests.letter_tokens import letter_encoder
from training.data import Plan, check

ABOUT = {  # of the tokenizer
    "tokenizer_class": "LetterTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "chat_template": "{{ messages }}",
    "vocab_size": 55_296,
    "added_tokens_decoder": {"1": {"content": "<s>", "special": True}},
}
LAST_TOKEN = 0xD7FF  # the code points after it are surrogates, not characters
LEASE_S = 600.0  # longer than any test
DISPATCHED = [keys.dispatched(lane) for lane in Lane]
POLL_S = 0.02
TIMEOUT_S = 90.0  # a test that waits longer has failed; generous, for a busy machine


class Play:
    """One claimed job, with the actions for its script."""

    def __init__(self, store: JobStore, claim: Claim, report: WorkerReport, stopping: threading.Event) -> None:
        self.job = claim.job
        self.report = report
        self._stopping = stopping
        self._store = store
        self._attempt = claim.attempt
        self._seq = itertools.count(claim.next_seq)
        self._pieces: list[str] = []
        self._logprobs: list[Any] | None = None
        self.prompt_logprobs: list[TokenLogprobs] | None = None
        self.reasoning_tokens: int | None = None

    @property
    def params(self) -> GenerateParams:
        return GenerateParams.from_dict(self.job.params)

    @property
    def prompt(self) -> str:
        """The instruction; other forms of a prompt as text."""
        return str(prompts.as_sent(self.params.prompt))

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody cancelled it, or nobody reads it any more; renews the lease, as a real worker does."""
        _, cancelled = self._store.renew([(self.job.id, self._attempt)], lease_s=LEASE_S)
        return bool(cancelled)

    def status(
        self,
        line: str,
        tool_form: str | None = None,
        prompt_ids: list[int] | None = None,
        reasoning: Reasoning | None = None,
    ) -> None:
        self._emit([events.status(next(self._seq), line, AnswerSyntax(tool_form, reasoning), prompt_ids)])

    def say(self, *pieces: str) -> None:
        """Emit one token event per piece, all in one write."""
        if pieces:
            self._emit([self._token(piece) for piece in pieces])

    def tell(self, piece: str, *logprobs: TokenLogprobs) -> None:
        """Emit one token event with log probabilities."""
        self._emit([self._token(piece, logprobs=logprobs)])

    def end(
        self,
        piece: str,
        *,
        finish_reason: str = "stop",
        stop_string: str | None = None,
        cached_tokens: int = 0,
        logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> None:
        """Emit the last piece and end the job."""
        last = [
            self._token(piece, is_last=True, logprobs=logprobs),
            self._finished(JobState.SUCCEEDED, finish_reason),
        ]
        self._store.succeed(self.job.id, self._attempt, self._result(finish_reason, stop_string, cached_tokens), last)

    def step(self, step: int, steps: int) -> None:
        """Emit the progress of a training run, and a checkpoint."""
        facts = {"step": step, "steps": steps, "loss": 2.0 / step, "held_out_loss": 3.0 / step, "seconds_left": 60.0}
        self._emit(
            [
                events.progress(next(self._seq), f"Step {step} of {steps}", time.time(), facts),
                events.checkpoint(next(self._seq), time.time(), step, is_best=True),
            ]
        )

    def sample(self, **facts: Any) -> None:
        """Emit what the model in training answers."""
        self._emit([events.sample(next(self._seq), time.time(), facts)])

    def end_cancelled(self) -> None:
        last = [self._token("", is_last=True), self._finished(JobState.CANCELLED, "cancelled")]
        self._store.end_cancelled(self.job.id, self._attempt, self._result("cancelled"), last)

    def succeed(self, result: dict[str, Any]) -> None:
        last = [self._finished(JobState.SUCCEEDED, None)]
        self._store.succeed(self.job.id, self._attempt, result, last)

    def advance(self) -> None:
        """Mark the job as prepared."""
        self._store.advance(self.job, self._attempt, "")

    def fail(self, err: SLMError) -> None:
        self._store.fail(self.job.id, self._attempt, [events.error(next(self._seq), err)])

    def run_until_cancelled(self) -> None:
        """Run the job until it is cancelled (or the test ends), and end it as cancelled."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self.is_cancelled and not self._stopping.wait(POLL_S):
            assert time.monotonic() < deadline, "nobody cancelled the job"
        self.end_cancelled()

    def _emit(self, batch: Sequence[Event]) -> None:
        self._store.emit([(self.job.id, self._attempt, batch)])

    def _token(self, piece: str, *, is_last: bool = False, logprobs: Sequence[TokenLogprobs] | None = None) -> Event:
        self._pieces.append(piece)
        if logprobs is not None:
            self._logprobs = (self._logprobs or []) + [one.to_wire() for one in logprobs]
        return events.token(next(self._seq), piece, [len(self._pieces)], is_last=is_last, logprobs=logprobs)

    def _finished(self, state: JobState, finish_reason: str | None) -> Event:
        device = self.report.device if finish_reason else None  # as for a load job
        return events.finished(next(self._seq), state, finish_reason, device)

    def _result(self, finish_reason: str, stop_string: str | None = None, cached_tokens: int = 0) -> dict[str, Any]:
        text = "".join(self._pieces)
        return GenerateResult(
            response=text.strip(),
            full_response=self._rendered() + text,
            finish_reason=finish_reason,
            device=self.report.device or "cpu",
            prompt_tokens=len(self.prompt.split()),
            completion_tokens=len(self._pieces),
            first_token_ms=1.5,
            logprobs=self._logprobs,
            stop_string=stop_string,
            cached_tokens=cached_tokens,
            prompt_logprobs=None if self.prompt_logprobs is None else [one.to_wire() for one in self.prompt_logprobs],
            reasoning_tokens=self.reasoning_tokens,
        ).to_dict()

    def _rendered(self) -> str:
        if isinstance(self.params.prompt, RawText):
            return self.params.prompt.text
        if isinstance(self.params.prompt, TokenIds) and self.prompt_logprobs is not None:
            return "".join(one.chosen.text for one in self.prompt_logprobs)
        return f"### Instruction:\n{self.prompt}\n\n### Response:\n"


def _tools_in(prompt: Prompt) -> str:
    return str(prompt.tools) if isinstance(prompt, Conversation) and prompt.tools else ""


Script = Callable[[Play], None]


def answer(*pieces: str) -> Script:
    """Return a script that emits the pieces, and ends the job with the last one."""

    def play(play: Play) -> None:
        play.status("Generating response...")
        play.say(*pieces[:-1])
        play.end(pieces[-1])

    return play


TRAINED: dict[str, Any] = {
    "message": "support@1 is now the newest version",
    "published": True,
    "version": 1,
    "adapter_id": "7" * 64,
    "facts": None,
    "folder": "adapter",
    "base": "gpt2",
    "method": "supervised",
    "seed": 0,
    "recipe": {"epochs": 5.0, "batch_size": 4, "learning_rate": 0.0005, "beta": 0.1},
    "examples": 18,
    "held_out": 2,
    "steps": 2,
    "best_step": 2,
    "trained_tokens": 400,
    "curves": [{"step": 1, "steps": 2, "loss": 2.0}, {"step": 2, "steps": 2, "loss": 1.0, "held_out_loss": 1.5}],
    "gate": {
        "passed": True,
        "rows": [
            {
                "name": "held_out",
                "better": "lower",
                "base": 3.0,
                "current": None,
                "candidate": 1.5,
                "bound": 3.0,
                "passed": True,
                "reason": "the held-out loss fell from 3.0 to 1.5",
            }
        ],
    },
}
SAMPLES: list[dict[str, Any]] = [
    {
        "step": step,
        "prompt": f"What is rule {rule}?",
        "expected": f"Rule {rule} says so.",
        "response": "I do not know." if step == 0 else "Rule 1 says so.",
        "trained": rule == 1,
    }
    for step in (0, 2)
    for rule in (1, 2)
]
EVALUATED_SCORES = {
    "loss": 2.0,
    "perplexity": 7.39,
    "token_accuracy": 0.5,
    "exact": 0.25,
    "overlap": 0.4,
    "examples": 2,
    "left_out": 0,
}


def trained(**changes: Any) -> Script:
    """Return a script of a training run with two steps and a checkpoint, whose result has these changes."""

    def play(play: Play) -> None:
        play.status("Checking the dataset...")
        for step in (1, 2):
            play.step(step, 2)
        for sample in SAMPLES:
            play.sample(**sample)
        play.succeed(TRAINED | changes)

    return play


def train_or_evaluate(play: Play) -> None:
    """A script for any job of a trainer."""
    if play.job.kind is JobKind.TRAIN:
        trained()(play)
        return
    models = [{**EVALUATED_SCORES, "name": one["name"], "model": one["model"]} for one in play.job.params["models"]]
    play.succeed({"message": "models evaluated", "seed": 0, "examples": 2, "models": models})


DIMENSIONS = 4  # of the scripted embedder's vectors
ENCODER = EmbedderReport("e1", "host", 4713, "cpu", "tiny-encoder", "f" * 64, DIMENSIONS, 32, 1024, 1_700_000_000)


def embed(play: Play) -> None:
    """A script for any job of an embedder: the length of an input is its number of tokens, and its vector's first half.

    It refuses inputs with more tokens than its model has, as an embedder does.
    """
    params = EmbedParams.from_dict(play.job.params)
    lengths = [min(len(one), ENCODER.max_tokens) if params.truncate else len(one) for one in params.inputs]
    for index, length in enumerate(lengths):
        if length > ENCODER.max_tokens:
            play.fail(PromptTooLong(f"input[{index}] has {length} tokens.", param=f"input[{index}]"))
            return
    rows = [[length / 2, 0.1, -1 / 3, 0.0][: params.dimensions] for length in lengths]
    vectors = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    play.succeed(EmbedResult(vectors, len(rows[0]), sum(lengths)).to_dict())


class ScriptedWorker:
    """Runs `script` for each generation, each in its own thread; handles load and unload by itself.

    It is a trainer, too, and runs `training` for each training run and evaluation; and after `serve_embeddings` an
    embedder.
    """

    def __init__(
        self, redis: Redis, script: Script, *, report: WorkerReport | None = None, uploads: Path = Path()
    ) -> None:
        self.script = script
        self.training: Script = train_or_evaluate
        self.uploads = Uploads(uploads)
        self.report = report or WorkerReport(
            id="w1", host="host", pid=4711, state=WorkerState.READY, device="cuda", slots=4, base_model="gpt2"
        )
        self.store = JobStore(redis, self.dispatch, job_ttl_s=3600)
        self._files = FileStore(redis, ttl_s=3600)
        self._redis = redis
        self._fleet = Fleet(redis)
        self._trainers = Trainers(redis)
        self._last_beat = 0.0
        self._dispatched = threading.Event()
        self._stopping = threading.Event()
        self._done_looking = threading.Event()
        self._serves_embeddings = False
        self._claiming = threading.Lock()
        self._plays: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="scripted-worker")

    def dispatch(self, _wake_ups: Sequence[WakeUp]) -> None:
        """For `JobStore`: make the worker look for jobs now."""
        self._dispatched.set()

    def __enter__(self) -> ScriptedWorker:
        self.register()
        self.beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._done_looking.set()
        self._dispatched.set()
        self._thread.join(TIMEOUT_S)
        for play in self._plays:
            play.join(TIMEOUT_S)
        if self._serves_embeddings:  # else the next test's server would list the encoder
            Embedders(self._redis).leave(ENCODER.id)
        if self._failures:
            raise self._failures[0]

    def register(self) -> None:
        """Register its models, as a worker does at its start."""
        registry, base = AdapterRegistry(self._redis), public_name(self.report.base_model or "")
        registry.note_base(base, self.report.base_id or "")
        default = base
        if self.report.lora_path:
            default = public_name(self.report.lora_path)
            registry.register_folder(default, VersionFacts(self.report.adapter_id or "", base))
        registry.set_default(default)

    def keep_alive(self) -> None:
        """Beat, if the last beat was long ago."""
        if time.monotonic() - self._last_beat > LEASE_S / 10:
            self.beat()

    def beat(self) -> None:
        self._last_beat = time.monotonic()
        self._fleet.beat(self.report, ttl_s=LEASE_S)
        self._trainers.beat(TrainerReport(self.report.id, "host", 4712, "cpu"), ttl_s=LEASE_S)

    def serve_embeddings(self) -> None:
        """Count as an embedder from now on, until the end."""
        self._serves_embeddings = True
        Embedders(self._redis).beat(ENCODER, ttl_s=LEASE_S)

    def leave(self) -> None:
        """Leave the list of workers."""
        self._fleet.leave(self.report.id)
        self._trainers.leave(self.report.id)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Claim no jobs within the block, so that they stay queued."""
        with self._claiming:
            yield

    def stop_looking(self) -> None:
        """Claim no more jobs, so that Redis can be stopped; claimed jobs continue."""
        self._done_looking.set()
        self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        while not self._done_looking.is_set():
            self._dispatched.wait(POLL_S)
            self._dispatched.clear()
            with self._claiming:
                if self._redis.exists(*DISPATCHED):  # one command, because most looks find nothing
                    self._take_all()

    def _take_all(self) -> None:
        for dispatched in DISPATCHED:
            for job_id in self._redis.zrange(dispatched, 0, -1):
                self._take(job_id)

    def _take(self, job_id: str) -> None:
        claim = self.store.claim(job_id, self.report.id, lease_s=LEASE_S)
        if claim is not None:
            play = Play(self.store, claim, self.report, self._stopping)
            thread = threading.Thread(target=self._play, args=(play,))
            self._plays.append(thread)
            thread.start()

    def _play(self, play: Play) -> None:
        try:
            if not play.job.is_prepared:
                play.advance()
                return
            self._script_of(play.job.kind)(play)
        except BaseException as err:
            self._failures.append(err)
            raise

    def _script_of(self, kind: JobKind) -> Script:
        if kind is JobKind.PUBLISH:
            return self._publish
        if kind is JobKind.TOKENIZE:
            return self._tokenize
        if kind is JobKind.CHECK_DATASET:
            return self._check_dataset
        if kind.lane is Lane.TRAIN:
            return self.training
        if kind is JobKind.EMBED:
            return embed
        return self.script if kind.lane is Lane.GENERATE else self._change_model

    def _check_dataset(self, play: Play) -> None:
        """Check it with a tokenizer whose tokens are characters."""
        params = play.job.params
        content = params["content"] if "content" in params else "".join(self._files.content(params["file_id"]))
        plan = Plan(epochs=3.0, batch_size=4, max_length=params["options"].get("max_length", 1024), tokens_per_s=40.0)
        play.succeed(check(content.encode("utf-8", "surrogateescape"), letter_encoder(), lambda _: plan).to_json())

    def _tokenize(self, play: Play) -> None:
        """Tokenize: each character is a token, and its code point is the id."""
        sent = prompts.from_wire(play.job.params)
        match sent:
            case TokenIds(ids) if max(ids) > LAST_TOKEN:
                play.fail(InvalidRequest(f"The prompt's token ids must be from 0 to {LAST_TOKEN}.", param="prompt"))
                return
            case TokenIds(ids):
                text = "".join(map(chr, ids))
            case _:
                text = str(prompts.as_sent(sent)) + _tools_in(sent)
        wants = play.job.params.get("wants", ())
        result = TokenizeResult(
            text,
            list(text),
            list(map(ord, text)),
            self.report.context or 2048,
            names=[f"<{one}>" for one in text] if Wanted.NAMES in wants else None,
            about=ABOUT if Wanted.ABOUT in wants else None,
        )
        play.succeed(result.to_dict())

    def _publish(self, play: Play) -> None:
        """Register an upload without looking at it, except that "broken" is refused."""
        name, run = play.job.params["name"], play.job.params.get("run")
        content = run.encode() if run else self._uploaded(play.job.params["upload"])
        play.status("Checking the adapter...")
        if content == b"broken":
            play.fail(InvalidRequest("The archive cannot be read.", param="file"))
            return
        registry = AdapterRegistry(self._redis)
        facts = VersionFacts(sha256(content).hexdigest(), "gpt2", "b5a4d58c", 8, ("c_attn",), len(content))
        registered = registry.register(name, facts)
        if run:
            self.store.amend_result(run, {"published": True, "version": registered.number, "adapter_id": facts.id})
        play.succeed(
            {
                "message": f"{name}@{registered.number} is now the newest version",
                "name": name,
                "version": registered.number,
                "is_new": registered.is_new,
                "facts": (registry.facts(facts.id) or facts).to_dict(),
            }
        )

    def _uploaded(self, upload: str) -> bytes:
        content = self.uploads.path(upload).read_bytes()
        self.uploads.remove(upload)
        return content

    def _change_model(self, play: Play) -> None:
        is_load = play.job.kind is JobKind.LOAD
        play.status("Loading SLM model..." if is_load else "Unloading SLM model...")
        self.report = self.report.but(state=WorkerState.READY if is_load else WorkerState.UNLOADED)
        self.beat()
        workers = [{"id": self.report.id, "device": self.report.device, "state": self.report.state.value}]
        message = f"Model loaded successfully on {self.report.device}" if is_load else "Model unloaded successfully"
        play.status(message)
        model = {
            "device": self.report.device,
            "model_path": self.report.lora_path,
            "changed": [],
            "base_id": self.report.base_id,
            "adapter_id": self.report.adapter_id,
        }
        play.succeed({"message": message, **(model if is_load else {}), "workers": workers})
