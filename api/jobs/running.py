"""Runs the generations of the current request: waits for them, or opens their streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from flask import request

from api.current import caller, note_job, open_stream, services
from api.http.disconnect import watch_client
from api.jobs.choices import GeneratedChoice
from api.jobs.generations import Generations
from api.jobs.request import check_connected, model_named
from api.jobs.sse import FIRST_EVENT_WAIT_S
from api.service import NewJob
from common.errors import SLMError
from common.jobs import prompts
from common.jobs.job import JobKind, JobRecord, TokenizeResult, Wanted
from common.jobs.prompts import Prompt
from common.jobs.store import JobOptions

Names = Mapping[str, str]  # the worker's names of fields -> the request's


def completed(new: Sequence[NewJob], names: Names) -> tuple[JobRecord, list[GeneratedChoice]]:
    """Submit the jobs and wait for them; return the first one's record, of its beginning, and all results.

    Raises:
        SLMError: as `Generations`, its `wait`, and `check_connected`.
    """
    with _started(new) as generations, _renaming(names), ExitStack() as at_end:
        record = _first_record(generations)
        at_end.callback(watch_client(request.environ, generations.abandon))
        return record, generations.wait()


def opened(new: Sequence[NewJob], names: Names) -> tuple[JobRecord, Generations]:
    """Submit jobs that are streamed; return the first one's record, and the generations, which must be closed.

    Raises:
        SLMError: as `Generations`, its `raise_early_error`, `check_connected` and `open_stream`.
    """
    open_stream()
    with ExitStack() as at_error:
        generations = at_error.enter_context(_started(new))
        with _renaming(names):
            record = _first_record(generations)
            generations.raise_early_error(FIRST_EVENT_WAIT_S)
        at_error.pop_all()
    return record, generations


def run_to_end(new: NewJob) -> JobRecord:
    """Submit a job of any kind and wait until it has ended, however long that takes; return its record.

    Raises:
        SLMError: the job failed with this error.
        Cancelled: somebody cancelled the job.
    """
    jobs = services().jobs
    check_connected(new)
    with jobs.start(new) as job, ExitStack() as at_end:
        note_job(job.id, job.model, is_repeat=job.is_repeat)
        at_end.callback(watch_client(request.environ, lambda: jobs.abandon(job, new)))
        for _ in job.events(pulse_s=services().settings.heartbeat_s):
            pass
    record = jobs.get(job.id, caller())
    record.required_result()
    return record


def token_count(prompt: Prompt, options: JobOptions, names: Names) -> int:
    """Return the number of tokens of a prompt as the model sees it. Raises as `run_to_end`."""
    with _renaming(names):
        return len(_tokenized(prompt, options).ids)


def tokenized(prompt: Prompt, model: str, wants: Sequence[Wanted] = ()) -> TokenizeResult:
    """Return the tokens of a prompt, and what else is wanted. Raises as `run_to_end`."""
    options = JobOptions(reader_grace_s=services().settings.reader_grace_s, model=model_named(model))
    return _tokenized(prompt, options, wants)


def _tokenized(prompt: Prompt, options: JobOptions, wants: Sequence[Wanted] = ()) -> TokenizeResult:
    params = prompts.to_wire(prompt) | ({"wants": list(wants)} if wants else {})
    return TokenizeResult.from_dict(run_to_end(NewJob(caller().owner, JobKind.TOKENIZE, params, options)).result or {})


def _started(new: Sequence[NewJob]) -> Generations:
    check_connected(new[0])
    generations = Generations(services().jobs, caller(), new)
    first = generations.first
    note_job(first.id, first.model, is_repeat=first.is_repeat)
    return generations


def _first_record(generations: Generations) -> JobRecord:
    return services().jobs.get(generations.first.id, caller())


@contextmanager
def _renaming(names: Names) -> Iterator[None]:
    try:
        yield
    except SLMError as err:
        raise err.renamed(names) from err
