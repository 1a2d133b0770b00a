"""Describes the routes under `/slm`, by their endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from api.reference import headers
from api.reference.error_models import GENERATION, MODEL_CHANGE
from api.reference.operation import EVENTS, Operation, Parameter, RequestBody, SuccessResponse, Tag, simple
from api.schemas.frames import Frame
from api.schemas.generated import Generated
from api.schemas.generation import GenerateBody
from api.schemas.jobs import Accepted, Account, Cancellation, Dropped, Job, JobList, Quarantine
from api.schemas.query import MAX_SEARCH_CHARS
from api.schemas.server import Info, ModelBody, ModelChanged
from api.schemas.tokens import DetokenizeBody, TokenizeBody, Tokens
from common import errors
from common.errors import SLMError

JOB_ID = Parameter("path", "job_id", headers.UUID, "The job's id.", headers.EXAMPLE_JOB)
LIMIT = Parameter(
    "query",
    "limit",
    {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "Maximum number of jobs to list.",
    10,
)
SEARCH = Parameter(
    "query",
    "q",
    {"type": "string", "minLength": 1, "maxLength": MAX_SEARCH_CHARS},
    "List only jobs with this text in their id, model, base or owner, or in the prompt of a generation of your own.",
)
LAST_SEEN = Parameter(
    "query", "last_event_id", {"type": "integer", "minimum": 0}, "Like `Last-Event-ID`, which takes precedence."
)
SUBMITTING = (headers.IDEMPOTENCY_KEY, headers.PREFER)
PROMPT = {"prompt": "Write a short story about a robot", "max_new_tokens": 150, "temperature": 0.8}
STREAM = """\
id: 0
data: {"status": "Queued", "position": 1}

id: 1
data: {"status": "Generating response..."}

id: 2
data: {"text": "Once ", "full_text": "Once", "is_complete": false}

: heartbeat

id: 3
data: {"text": "upon a time.", "full_text": "Once upon a time.", "is_complete": true}

id: 4
data: {"status": "Response complete!", "device_used": "cuda"}

"""
MODEL_USED = {"model": "support@3", "base": "SmolLM2-135M-Instruct", "adapter_id": "9f86d081884c7d65" * 4}
GENERATED: dict[str, Any] = {
    "success": True,
    "prompt": "What is the capital of France?",
    "response": "It is Paris.",
    "full_response": "### Instruction:\nWhat is the capital of France?\n\n### Response:\nIt is Paris.",
    "device": "cuda",
    "settings": {
        "max_new_tokens": 50,
        "temperature": 0.7,
        "do_sample": True,
        "seed": 42,
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "stop": [],
    },
    "job_id": headers.EXAMPLE_JOB,
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 19, "completion_tokens": 5, "total_tokens": 24},
    "timings": {"queue_ms": 3, "run_ms": 140, "total_ms": 143, "first_token_ms": 12.5},
    **MODEL_USED,
}
TOKENS = {
    "success": True,
    "text": "Hello",
    "tokens": ["Hello"],
    "ids": [19556],
    "count": 1,
    "context_length": 2048,
    "job_id": headers.EXAMPLE_JOB,
    **MODEL_USED,
}
FRAMES = (
    "Server-sent events with JSON as their `data`, and the number of the job's last event in them as their `id`. There "
    "is one for each new piece of the answer, and a few for the pieces that existed before. A frame with a new queue "
    "position has no `id`, and a comment is sent when nothing happens. An error is the last frame."
)

ACCEPTED = SuccessResponse(
    "The job was submitted and continues: the client did not want to wait, or the time limit for waiting was reached.",
    Accepted,
    status=202,
    headers=headers.REPEATABLE,
    example={
        "success": True,
        "job_id": headers.EXAMPLE_JOB,
        "status": "queued",
        "position": 1,
        "estimated_wait_s": 2.5,
    },
)


def _work(
    id_: str,
    tag: Tag,
    summary: str,
    body: RequestBody,
    success: SuccessResponse,
    *,
    description: str = "",
    failures: Sequence[type[SLMError]] = GENERATION,
) -> Operation:
    """Describe a route that submits a job: its client waits for the result, or only for 202."""
    return Operation(
        id=id_,
        tag=tag,
        summary=summary,
        description=description,
        parameters=SUBMITTING,
        body=body,
        responses=[replace(success, headers=headers.REPEATABLE), ACCEPTED],
        errors=(*failures, errors.IdempotencyMismatch),
    )


def _tokens(id_: str, summary: str, outcome: str, body: RequestBody, description: str = "") -> Operation:
    return _work(
        id_, Tag.MODEL, summary, body, SuccessResponse(outcome, Tokens, example=TOKENS), description=description
    )


def _model_change(id_: str, summary: str, outcome: str, description: str = "") -> Operation:
    body = RequestBody(ModelBody, {}, is_required=False)
    success = SuccessResponse(outcome, ModelChanged)
    return _work(id_, Tag.MODEL, summary, body, success, description=description, failures=MODEL_CHANGE)


SLM_OPERATIONS = {
    "slm.generate": _work(
        "generate",
        Tag.GENERATE,
        "Generate an answer and return it as a whole",
        RequestBody(GenerateBody, {"prompt": "What is the capital of France?", "max_new_tokens": 50}),
        SuccessResponse("The answer.", Generated, example=GENERATED),
        description="Responds with 202 if it takes longer than `SLM_SYNC_TIMEOUT_S`; the result is kept.",
    ),
    "slm.stream": _work(
        "stream",
        Tag.GENERATE,
        "Generate an answer and stream it piece by piece",
        RequestBody(GenerateBody, PROMPT),
        SuccessResponse(FRAMES, Frame, media_types=(EVENTS,), example=STREAM),
        description="A broken stream can be resumed at `GET /slm/jobs/{job_id}/stream`; the job's id is in `X-Job-Id`.",
    ),
    "tokens.tokenize": _tokens(
        "tokenize",
        "Show the tokens of a prompt",
        "The tokens.",
        RequestBody(TokenizeBody, {"prompt": "What is the capital of France?"}),
        description="A `prompt` as in `/slm/generate`, chat `messages`, or `raw_text` as in `/v1/completions`.",
    ),
    "tokens.detokenize": _tokens(
        "detokenize", "Show the text of tokens", "The text.", RequestBody(DetokenizeBody, {"ids": [19556]})
    ),
    "jobs.list_jobs": Operation(
        id="listJobs",
        tag=Tag.JOBS,
        summary="List the newest jobs",
        description="Lists your own jobs; for an admin, everybody's.",
        parameters=(LIMIT, SEARCH),
        responses=[SuccessResponse("The jobs.", JobList)],
        errors=(errors.InvalidRequest,),
    ),
    "jobs.show_job": simple(
        "showJob",
        Tag.JOBS,
        "Show a job: its state, its queue position, its text so far, its result",
        SuccessResponse("The job.", Job),
        JOB_ID,
        errors=(errors.JobNotFound,),
    ),
    "sse.stream": Operation(
        id="attach",
        tag=Tag.JOBS,
        summary="Stream a job from its beginning, or after the last event that you have received",
        description="Any number of clients can follow a job, through any API process, at any time.",
        parameters=(JOB_ID, headers.LAST_EVENT_ID, LAST_SEEN),
        responses=[
            SuccessResponse(FRAMES, Frame, media_types=(EVENTS,), example=STREAM),
            SuccessResponse("You have received all events.", status=204, media_types=()),
        ],
        errors=(errors.InvalidRequest, errors.JobNotFound),
    ),
    "jobs.cancel_job": simple(
        "cancelJob",
        Tag.JOBS,
        "Cancel a job: a queued job ends now, a running job at its next token",
        SuccessResponse("The job is cancelled, will be at its next token, or had ended before.", Cancellation),
        JOB_ID,
        errors=(errors.JobNotFound, errors.Conflict),
    ),
    "usage.show_usage": simple(
        "showUsage", Tag.JOBS, "Count your ended jobs and their tokens", SuccessResponse("Your account.", Account)
    ),
    "slm.info": simple(
        "info", Tag.MODEL, "Show the model, the queue and the workers", SuccessResponse("The current state.", Info)
    ),
    "slm.load": _model_change("load", "Load the model on every worker", "Every worker has loaded the model."),
    "slm.unload": _model_change(
        "unload",
        "Unload the model from every worker's memory",
        "No worker has the model loaded.",
        description="The next generation loads it again.",
    ),
    "quarantine.list_quarantine": simple(
        "listQuarantine",
        Tag.OPERATE,
        "List the jobs that were set aside because several of their workers died",
        SuccessResponse("The jobs.", Quarantine),
    ),
    "quarantine.retry_job": simple(
        "retryJob",
        Tag.OPERATE,
        "Submit a job that was set aside again, as a new job",
        ACCEPTED,
        JOB_ID,
        errors=(
            errors.JobNotFound,
            errors.ModelNotFound,
            errors.Conflict,
            errors.NoWorker,
            errors.QueueFull,
            errors.RedisFull,
        ),
    ),
    "quarantine.drop_job": simple(
        "dropJob",
        Tag.OPERATE,
        "Remove a job from those that were set aside",
        SuccessResponse("The job was removed.", Dropped),
        JOB_ID,
        errors=(errors.JobNotFound,),
    ),
}
