"""The JSON bodies of the answers, key by key in the order of the API's documentation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from api import __version__
from api.service import JobView, Usage
from common import prompts
from common.errors import SLMError
from common.fleet import WorkerReport
from common.job_store import Place
from common.jobs import GenerateParams, GenerateResult, JobKind, JobRecord, JobState, Lane, TokenizeResult
from common.logprobs import ScoredToken, TokenLogprobs
from common.sampling import SamplingParams

Body = dict[str, Any]


def error_fields(err: SLMError, request_id: str) -> Body:
    """What an error body and an error frame say alike."""
    fields = {"error": err.message, "code": err.code, "request_id": request_id}
    return fields if err.param is None else fields | {"param": err.param}


def error(err: SLMError, request_id: str) -> Body:
    """Every answer that is no success."""
    return {"success": False} | error_fields(err, request_id)


def accepted(job_id: str, state: JobState, place: Place | None) -> Body:
    """A job that goes on without its client."""
    return {"success": True, "job_id": job_id, "status": state.value, **waiting(place)}


def waiting(place: Place | None) -> Body:
    """Where a job stands in line; two nulls for one that is not queued."""
    return {
        "position": None if place is None else place.position,
        "estimated_wait_s": None if place is None else place.estimated_wait_s,
    }


def outcome(record: JobRecord) -> Body | None:
    """What an ended job has brought: the body of the synchronous answer. None where it brought nothing.

    A cancelled generation brings what it had so far, with `success` false.
    """
    if not record.result:
        return None
    succeeded = {"success": record.state is JobState.SUCCEEDED}
    if record.kind.lane is Lane.GENERATE:
        return succeeded | _generated(record, GenerateResult.from_dict(record.result))
    if record.kind is JobKind.TOKENIZE:
        return succeeded | _tokens_of(TokenizeResult.from_dict(record.result)) | {"job_id": record.id}
    return succeeded | _without_workers(record.result) | {"job_id": record.id, "workers": record.result["workers"]}


def _tokens_of(result: TokenizeResult) -> Body:
    return {
        "text": result.text,
        "tokens": result.tokens,
        "ids": result.ids,
        "count": len(result.ids),
        "context_length": result.context_length,
    }


def _without_workers(result: Body) -> Body:
    return {key: value for key, value in result.items() if key != "workers"}


def _generated(record: JobRecord, result: GenerateResult) -> Body:
    params = GenerateParams.from_dict(record.params)
    told = {} if result.logprobs is None else {"logprobs": logprobs(result.logprobs)}
    return {
        "prompt": prompts.as_sent(params.prompt),
        "response": result.response,
        "full_response": result.full_response,
        "device": result.device,
        "settings": _settings(params.sampling),
        "job_id": record.id,
        "finish_reason": result.finish_reason,
        "usage": _tokens(result.prompt_tokens, result.completion_tokens),
        "timings": timings(record),
        **told,
    }


def logprobs(wire: Sequence[Any]) -> list[Body]:
    """What was told of each token, from the form that it has in the log and in a result."""
    tokens = [TokenLogprobs.from_wire(one) for one in wire]
    return [_scored(one.chosen) | {"top": [_scored(other) for other in one.top]} for one in tokens]


def _scored(token: ScoredToken) -> Body:
    """A part of a character has no text that says all; it is told by its bytes, too."""
    scored: Body = {"token": token.text, "token_id": token.token_id, "logprob": token.logprob}
    return scored if token.is_text else scored | {"bytes": list(token.token)}


def _settings(sampling: SamplingParams) -> Body:
    documented = ("max_new_tokens", "temperature", "do_sample")
    values = sampling.to_dict()
    return {name: values[name] for name in documented} | values


def _tokens(prompt: int, completion: int) -> Body:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def timings(record: JobRecord) -> Body:
    """How long the job's phases took, in ms; None for what has not come yet."""
    result = record.result or {}
    return {
        "queue_ms": _between(record.created_ms, record.started_ms),
        "run_ms": _between(record.started_ms, record.finished_ms),
        "total_ms": _between(record.created_ms, record.finished_ms),
        "first_token_ms": result.get("first_token_ms"),
    }


def _between(start_ms: int | None, end_ms: int | None) -> int | None:
    return None if start_ms is None or end_ms is None else end_ms - start_ms


def job(view: JobView) -> Body:
    """One job in full."""
    record = view.record
    return {
        "success": True,
        "job_id": record.id,
        "kind": record.kind.value,
        "status": record.state.value,
        **waiting(view.place),
        "attempt": record.attempt,
        "text": view.text,
        "result": outcome(record),
        "error": _error(record),
        **_times(record),
        "timings": timings(record),
        "webhook": _webhook(record),
    }


def _webhook(record: JobRecord) -> Body | None:
    if record.webhook is None:
        return None
    return {
        "state": record.webhook.state.value,
        "attempts": record.webhook.attempts,
        "last_error": record.webhook.last_error,
    }


def jobs(records: Sequence[JobRecord]) -> Body:
    """The listing."""
    return {"success": True, "jobs": [_summary(record) for record in records]}


def quarantine(records: Sequence[JobRecord]) -> Body:
    """The listing of the jobs that were set aside, with what an operator wants to know of them."""
    return {"success": True, "jobs": [_summary(record) | _trouble(record) for record in records]}


def _trouble(record: JobRecord) -> Body:
    return {"crashes": record.crashes, "error": _error(record)}


def _error(record: JobRecord) -> Body | None:
    return None if record.error is None else record.error.to_dict()


def dropped(job_id: str) -> Body:
    """A job was taken out of quarantine."""
    return {"success": True, "job_id": job_id}


def usage(account: Usage) -> Body:
    """What an owner's ended jobs came to."""
    return {
        "success": True,
        "owner": account.owner,
        "jobs": account.jobs,
        **_tokens(account.prompt_tokens, account.completion_tokens),
    }


def _summary(record: JobRecord) -> Body:
    return {
        "job_id": record.id,
        "kind": record.kind.value,
        "status": record.state.value,
        "attempt": record.attempt,
        **_times(record),
    }


def _times(record: JobRecord) -> Body:
    return {
        "created_at": _iso(record.created_ms),
        "started_at": _iso(record.started_ms),
        "finished_at": _iso(record.finished_ms),
    }


def _iso(epoch_ms: int | None) -> str | None:
    if epoch_ms is None:
        return None
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cancellation(job_id: str, state: JobState) -> Body:
    """The answer to DELETE; `cancelling` is true while the job still has to stop."""
    return {"success": True, "job_id": job_id, "status": state.value, "cancelling": state is JobState.RUNNING}


def info(workers: Sequence[WorkerReport], *, waiting: int, running: int) -> Body:
    """What is being served, by whom. The model's facts come from a worker that holds it, if there is one."""
    speaker = next((one for one in workers if one.holds_model), workers[0] if workers else None)
    return {
        "model_loaded": any(one.holds_model for one in workers),
        "device": speaker and speaker.device,
        "base_model": speaker and speaker.base_model,
        "lora_path": speaker and speaker.lora_path,
        "cuda_available": any(one.cuda_available for one in workers),
        "mps_available": any(one.mps_available for one in workers),
        "queue": {"waiting": waiting, "running": running},
        "adapters": _adapters(workers),
        "workers": [_worker(one) for one in workers],
        "version": __version__,
    }


def _adapters(workers: Sequence[WorkerReport]) -> list[str]:
    """The names under which `/v1` serves the loaded adapters."""
    return sorted({Path(one.lora_path).name for one in workers if one.holds_model and one.lora_path})


def _worker(report: WorkerReport) -> Body:
    return {
        "id": report.id,
        "host": report.host or None,
        "pid": report.pid or None,
        "device": report.device,
        "state": report.state.value,
        "running": report.running,
        "slots": report.slots,
        "error": report.error,
    }
