"""Builds the JSON bodies of the responses under `/slm`, with keys in the order of the API's documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from inspect import get_annotations
from pathlib import Path
from typing import Any, cast

from api import __version__, adapter_views
from api.overview import Snapshot
from api.schemas.datasets import DatasetReport
from api.schemas.embedded import Embedded, numbers
from api.schemas.errors import Error, ErrorFrame, JobError
from api.schemas.generated import (
    FIRST_SETTINGS,
    FinishReason,
    Generated,
    ModelUsed,
    PromptAsSent,
    Scored,
    Timings,
    TokenCounts,
)
from api.schemas.generated import ScoredToken as ScoredTokenShown
from api.schemas.jobs import (
    Accepted,
    Account,
    Cancellation,
    Dropped,
    Job,
    JobList,
    JobResult,
    JobSummary,
    ListedJob,
    OfTraining,
    Quarantine,
    QuarantinedJob,
    QueueStatus,
    Webhook,
    WebhookStatus,
)
from api.schemas.keys import KeyUsage
from api.schemas.server import Embedding, Info, ModelChanged, Queue, ServedBase, Training, Worker
from api.schemas.tokens import Tokens
from api.schemas.training import Evaluated, RunState, Trained, TrainingProgress
from api.service import JobView, Usage
from api.times import iso
from common.embedding.task import EmbedResult
from common.errors import SLMError
from common.fleet import WorkerReport
from common.jobs import prompts
from common.jobs.job import GenerateParams, GenerateResult, JobKind, JobRecord, JobState, Lane, TokenizeResult
from common.jobs.logprobs import ScoredToken, TokenLogprobs
from common.jobs.sampling import SamplingParams
from common.jobs.store import LimitedUsage, QueuePosition
from common.owners.api_keys import Role


def error_fields(err: SLMError, request_id: str) -> ErrorFrame:
    """Return the fields that an error body and an error frame share."""
    fields = ErrorFrame(error=err.message, code=err.code, request_id=request_id)
    if err.param is not None:
        fields["param"] = err.param
    return fields


def error(err: SLMError, request_id: str) -> Error:
    """Return the body of an error response."""
    return Error(success=False, **error_fields(err, request_id))


def accepted(job_id: str, state: JobState, queue_position: QueuePosition | None) -> Accepted:
    """Return the body for a job that its client does not wait for."""
    return Accepted(success=True, job_id=job_id, status=state, **queue_status(queue_position))


def queue_status(found: QueuePosition | None) -> QueueStatus:
    """Return the queue position and the estimated wait of a job; both are null if it is not queued."""
    return QueueStatus(
        position=None if found is None else found.position,
        estimated_wait_s=None if found is None else found.estimated_wait_s,
    )


def status_of_result(record: JobRecord) -> int:
    """Return the HTTP status of the response with a job's result."""
    return 201 if record.kind is JobKind.PUBLISH and record.result and record.result["is_new"] else 200


def result(record: JobRecord) -> JobResult | None:
    """Return the result of an ended job: the body of the synchronous response. None if it has no result.

    The result of a cancelled generation is its answer so far, with `success` false.
    """
    if not record.result:
        return None
    succeeded = record.state is JobState.SUCCEEDED
    if record.kind.lane is Lane.GENERATE:
        return _generated(record, GenerateResult.from_dict(record.result), succeeded=succeeded)
    if record.kind is JobKind.TOKENIZE:
        return _tokens_of(record, TokenizeResult.from_dict(record.result), succeeded=succeeded)
    if record.kind is JobKind.CHECK_DATASET:
        checked = {"success": succeeded, **record.result, "job_id": record.id, **_model_used(record)}
        return cast(DatasetReport, checked)
    if record.kind is JobKind.PUBLISH:
        return adapter_views.published(record.result, job_id=record.id, succeeded=succeeded)
    if record.kind is JobKind.TRAIN:
        return _trained(record, record.result, succeeded=succeeded)
    if record.kind is JobKind.EVALUATE:
        return cast(Evaluated, {"success": succeeded, **record.result, "job_id": record.id})
    if record.kind is JobKind.EMBED:
        return _embedded(record, EmbedResult.from_dict(record.result), succeeded=succeeded)
    most = {name: value for name, value in record.result.items() if name != "workers"}
    changed = {"success": succeeded, **most, "job_id": record.id, "workers": record.result["workers"]}
    return cast(ModelChanged, changed)


def _trained(record: JobRecord, result: Mapping[str, Any], *, succeeded: bool) -> Trained:
    repeated = {name: result[name] for name in get_annotations(Trained) if name in result}
    name = record.params["name"]
    return cast(Trained, {"success": succeeded, **repeated, "name": name, "job_id": record.id})


def _embedded(record: JobRecord, result: EmbedResult, *, succeeded: bool) -> Embedded:
    return Embedded(
        success=succeeded,
        embeddings=[numbers(row) for row in result.rows()],
        dimensions=result.dimensions,
        job_id=record.id,
        usage=_tokens(result.prompt_tokens, 0),
        **_model_used(record),
    )


def _tokens_of(record: JobRecord, result: TokenizeResult, *, succeeded: bool) -> Tokens:
    return Tokens(
        success=succeeded,
        text=result.text,
        tokens=result.tokens,
        ids=result.ids,
        count=len(result.ids),
        context_length=result.context_length,
        job_id=record.id,
        **_model_used(record),
    )


def _generated(record: JobRecord, result: GenerateResult, *, succeeded: bool) -> Generated:
    params, used = GenerateParams.from_dict(record.params), _model_used(record)
    answer = Generated(
        success=succeeded,
        prompt=cast(PromptAsSent, prompts.as_sent(params.prompt)),
        response=result.response,
        full_response=result.full_response,
        device=result.device,
        settings=_settings(params.sampling),
        job_id=record.id,
        finish_reason=cast(FinishReason, result.finish_reason),
        usage=_tokens(result.prompt_tokens, result.completion_tokens),
        timings=timings(record),
        model=used["model"],
        base=used["base"],
        adapter_id=used["adapter_id"],
    )
    if result.logprobs is not None:
        answer["logprobs"] = logprobs(result.logprobs)
    return answer


def logprobs(wire: Sequence[Any]) -> list[ScoredTokenShown]:
    """Return the log probabilities of tokens, from their wire form in the log or in a result."""
    tokens = [TokenLogprobs.from_wire(one) for one in wire]
    return [ScoredTokenShown(**_scored(one.chosen), top=[_scored(other) for other in one.top]) for one in tokens]


def _scored(token: ScoredToken) -> Scored:
    """Return a token; if its text would lose bytes, because it is a part of a character, also its bytes."""
    scored = Scored(token=token.text, token_id=token.token_id, logprob=token.logprob)
    if not token.is_text:
        scored["bytes"] = list(token.token)
    return scored


def _settings(sampling: SamplingParams) -> dict[str, Any]:
    values = sampling.to_dict()
    return {name: values[name] for name in FIRST_SETTINGS} | values


def _model_used(record: JobRecord) -> ModelUsed:
    return ModelUsed(model=record.model or None, base=record.base or None, adapter_id=record.adapter_id or None)


def _tokens(prompt: int, completion: int) -> TokenCounts:
    return TokenCounts(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def timings(record: JobRecord) -> Timings:
    """Return the durations of the job's phases in ms; None for phases that have not ended."""
    return Timings(
        queue_ms=_between(record.created_ms, record.started_ms),
        run_ms=_between(record.started_ms, record.finished_ms),
        total_ms=_between(record.created_ms, record.finished_ms),
        first_token_ms=(record.result or {}).get("first_token_ms"),
    )


def _between(start_ms: int | None, end_ms: int | None) -> int | None:
    return None if start_ms is None or end_ms is None else end_ms - start_ms


def job(view: JobView) -> Job:
    """Return all details of a job."""
    record = view.record
    progress = OfTraining()
    if record.kind.lane is Lane.TRAIN:
        progress["progress"] = cast("TrainingProgress | None", view.progress)
    return Job(
        success=True,
        job_id=record.id,
        kind=record.kind,
        status=record.state,
        **queue_status(view.queue_position),
        attempt=record.attempt,
        text=view.text,
        result=result(record),
        error=_error(record),
        created_at=iso(record.created_ms),
        started_at=_iso(record.started_ms),
        finished_at=_iso(record.finished_ms),
        timings=timings(record),
        webhook=_webhook(record),
        **_model_used(record),
        **progress,
    )


def _webhook(record: JobRecord) -> WebhookStatus | None:
    if record.webhook is None:
        return None
    return WebhookStatus(
        state=record.webhook.state, attempts=record.webhook.attempts, last_error=record.webhook.last_error
    )


def webhook(view: JobView) -> Webhook:
    """Return the webhook message about an ended job; its data is the body of `GET /slm/jobs/<id>`."""
    data = job(view)
    return cast(Webhook, {"type": f"job.{data['status']}", "timestamp": data["finished_at"], "data": data})


def jobs(records: Sequence[JobRecord], *, is_admin: bool) -> JobList:
    """Return a listing of jobs; for admins with their owners."""
    return JobList(success=True, jobs=[_listed(record, is_admin=is_admin) for record in records])


def _listed(record: JobRecord, *, is_admin: bool) -> ListedJob:
    owner = {"owner": record.owner} if is_admin else {}
    return cast(ListedJob, {**_summary(record), **owner})


def quarantine(records: Sequence[JobRecord]) -> Quarantine:
    """Return the listing of the dead letters, with their crashes and errors."""
    return Quarantine(success=True, jobs=[_quarantined(record) for record in records])


def _quarantined(record: JobRecord) -> QuarantinedJob:
    return QuarantinedJob(**_summary(record), crashes=record.crashes, error=_error(record))


def _error(record: JobRecord) -> JobError | None:
    return None if record.error is None else cast(JobError, record.error.to_dict())


def dropped(job_id: str) -> Dropped:
    """Return the body after a job was removed from the dead letters."""
    return Dropped(success=True, job_id=job_id)


def usage(account: Usage, role: Role) -> Account:
    """Return an owner, their role, and the totals of their ended jobs."""
    return Account(
        success=True,
        owner=account.owner,
        role=role,
        jobs=account.jobs,
        **_tokens(account.prompt_tokens, account.completion_tokens),
    )


def key_usage(account: Usage, limited: LimitedUsage) -> KeyUsage:
    """Return what a key was used for."""
    return KeyUsage(
        jobs=account.jobs,
        **_tokens(account.prompt_tokens, account.completion_tokens),
        open_jobs=limited.open_jobs,
        tokens_today=limited.tokens_today,
        job_bytes=limited.job_bytes,
    )


def _summary(record: JobRecord) -> JobSummary:
    return JobSummary(
        job_id=record.id,
        kind=record.kind,
        status=record.state,
        attempt=record.attempt,
        created_at=iso(record.created_ms),
        started_at=_iso(record.started_ms),
        finished_at=_iso(record.finished_ms),
        **_model_used(record),
    )


def _iso(epoch_ms: int | None) -> str | None:
    return None if epoch_ms is None else iso(epoch_ms)


def cancellation(job_id: str, state: JobState) -> Cancellation:
    """Return the body of the response to DELETE; `cancelling` is true while the job has not stopped yet."""
    return Cancellation(success=True, job_id=job_id, status=state, cancelling=state is JobState.RUNNING)


def run_state(job_id: str, state: JobState) -> RunState:
    """Return the body of the response to a pause or a resumption."""
    return RunState(success=True, job_id=job_id, status=state)


def info(snapshot: Snapshot, workers: Sequence[WorkerReport]) -> Info:
    """Return the description of the server; the facts about the model come from a worker that has loaded it, if any.

    `workers` are those of the snapshot as the caller may see them.
    """
    source = next((one for one in workers if one.holds_model), workers[0] if workers else None)
    described = Info(
        model_loaded=any(one.holds_model for one in workers),
        device=source.device if source else None,
        base_model=source.base_model if source else None,
        lora_path=source.lora_path if source else None,
        cuda_available=any(one.cuda_available for one in workers),
        mps_available=any(one.mps_available for one in workers),
        queue=Queue(waiting=snapshot.waiting, running=snapshot.running),
        training=Training(
            trainers=snapshot.training.trainers, waiting=snapshot.training.waiting, running=snapshot.training.running
        ),
        adapters=_adapters(workers),
        workers=[_worker(one) for one in workers],
        version=__version__,
    )
    if snapshot.embedding is not None:
        described["embedding"] = cast(Embedding, asdict(snapshot.embedding))
    if snapshot.bases:
        described["bases"] = [_base(name, one, workers) for name, one in snapshot.bases.items()]
    return described


def _base(name: str, found: Snapshot, workers: Sequence[WorkerReport]) -> ServedBase:
    return ServedBase(
        name=name,
        model_loaded=any(one.holds_model for one in found.workers),
        queue=Queue(waiting=found.waiting, running=found.running),
        workers=[one.id for one in workers if one.base == name],
    )


def _adapters(workers: Sequence[WorkerReport]) -> list[str]:
    """Return the names under which `/v1` serves the loaded adapters."""
    return sorted({Path(one.lora_path).name for one in workers if one.holds_model and one.lora_path})


def _worker(report: WorkerReport) -> Worker:
    described = Worker(
        id=report.id,
        host=report.host or None,
        pid=report.pid or None,
        device=report.device,
        state=report.state,
        running=report.running,
        slots=report.slots,
        error=report.error,
    )
    if report.dtype is not None:
        described["dtype"] = report.dtype
    return described
