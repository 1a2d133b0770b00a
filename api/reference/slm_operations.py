"""The routes under `/slm`, by their endpoints."""

from __future__ import annotations

from typing import Any

from api.reference import headers
from api.reference.error_models import GENERATION, MODEL_CHANGE
from api.reference.operation import EVENTS, Answer, Operation, Parameter, RequestBody, Tag
from api.schemas.frames import Frame
from api.schemas.generated import Generated
from api.schemas.generation import GenerateBody
from api.schemas.jobs import Accepted, Account, Cancellation, Dropped, Job, JobList, Quarantine
from api.schemas.server import Info, ModelBody, ModelChanged
from api.schemas.tokens import DetokenizeBody, TokenizeBody, Tokens
from common import errors

JOB_ID = Parameter("path", "job_id", headers.UUID, "The job's id.", headers.EXAMPLE_JOB)
LIMIT = Parameter(
    "query",
    "limit",
    {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "The most jobs to list.",
    10,
)
LAST_SEEN = Parameter("query", "last_event_id", {"type": "integer", "minimum": 0}, "As `Last-Event-ID`, which wins.")
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
}
TOKENS = {
    "success": True,
    "text": "Hello",
    "tokens": ["Hello"],
    "ids": [19556],
    "count": 1,
    "context_length": 2048,
    "job_id": headers.EXAMPLE_JOB,
}
FRAMES = (
    "Server-sent events. Each has the number of the job's last event in it as its `id`, and JSON as its `data`: there "
    "is one for each piece of the answer as it is made, and few for what was there before. A frame about a move in "
    "line has no number, and a comment comes when nothing else does. An error is the last frame."
)

ACCEPTED = Answer(
    "The job is entered and goes on by itself: the client did not want to wait, or its time was over.",
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

SLM_OPERATIONS = {
    "slm.generate": Operation(
        id="generate",
        tag=Tag.GENERATE,
        summary="Generate an answer and give it at once",
        description="Answers 202 when it takes longer than `SLM_SYNC_TIMEOUT_S`; the result is kept.",
        parameters=SUBMITTING,
        body=RequestBody(GenerateBody, {"prompt": "What is the capital of France?", "max_new_tokens": 50}),
        answers=[
            Answer("The answer.", Generated, headers=headers.REPEATABLE, example=GENERATED),
            ACCEPTED,
        ],
        errors=(*GENERATION, errors.IdempotencyMismatch),
    ),
    "slm.stream": Operation(
        id="stream",
        tag=Tag.GENERATE,
        summary="Generate an answer and give it piece by piece",
        description="A stream that broke goes on at `GET /slm/jobs/{job_id}/stream`; the job's id is in `X-Job-Id`.",
        parameters=SUBMITTING,
        body=RequestBody(GenerateBody, PROMPT),
        answers=[
            Answer(
                FRAMES,
                Frame,
                media_types=(EVENTS,),
                headers=headers.REPEATABLE,
                example=STREAM,
            ),
            ACCEPTED,
        ],
        errors=(*GENERATION, errors.IdempotencyMismatch),
    ),
    "tokens.tokenize": Operation(
        id="tokenize",
        tag=Tag.MODEL,
        summary="Show the tokens of a prompt",
        description="As `/slm/generate` sees a `prompt`, a chat completion `messages`, and a completion a `raw_text`.",
        parameters=SUBMITTING,
        body=RequestBody(TokenizeBody, {"prompt": "What is the capital of France?"}),
        answers=[Answer("The tokens.", Tokens, headers=headers.REPEATABLE, example=TOKENS), ACCEPTED],
        errors=(*GENERATION, errors.IdempotencyMismatch),
    ),
    "tokens.detokenize": Operation(
        id="detokenize",
        tag=Tag.MODEL,
        summary="Show the text of tokens",
        parameters=SUBMITTING,
        body=RequestBody(DetokenizeBody, {"ids": [19556]}),
        answers=[Answer("The text.", Tokens, headers=headers.REPEATABLE, example=TOKENS), ACCEPTED],
        errors=(*GENERATION, errors.IdempotencyMismatch),
    ),
    "jobs.list_jobs": Operation(
        id="listJobs",
        tag=Tag.JOBS,
        summary="List the newest jobs",
        description="Your own; an admin's listing has everybody's.",
        parameters=(LIMIT,),
        answers=[Answer("The jobs.", JobList)],
        errors=(errors.InvalidRequest,),
    ),
    "jobs.show_job": Operation(
        id="showJob",
        tag=Tag.JOBS,
        summary="Show a job: its state, its place in line, its text so far, its result",
        parameters=(JOB_ID,),
        answers=[Answer("The job.", Job)],
        errors=(errors.JobNotFound,),
    ),
    "sse.stream": Operation(
        id="attach",
        tag=Tag.JOBS,
        summary="Stream a job from its beginning, or go on behind the last event that you have",
        description="Any number of clients may follow a job, through any API process, at any time.",
        parameters=(JOB_ID, headers.LAST_EVENT_ID, LAST_SEEN),
        answers=[
            Answer(FRAMES, Frame, media_types=(EVENTS,), example=STREAM),
            Answer("You have all of it.", status=204, media_types=()),
        ],
        errors=(errors.InvalidRequest, errors.JobNotFound),
    ),
    "jobs.cancel_job": Operation(
        id="cancelJob",
        tag=Tag.JOBS,
        summary="Cancel a job: a queued one at once, a running one at its next token",
        parameters=(JOB_ID,),
        answers=[Answer("It is cancelled, is about to be, or had ended before.", Cancellation)],
        errors=(errors.JobNotFound,),
    ),
    "usage.show_usage": Operation(
        id="showUsage",
        tag=Tag.JOBS,
        summary="Count your ended jobs and their tokens",
        answers=[Answer("Your account.", Account)],
    ),
    "slm.info": Operation(
        id="info",
        tag=Tag.MODEL,
        summary="Tell what is served, by which workers",
        answers=[Answer("How things stand.", Info)],
    ),
    "slm.load": Operation(
        id="load",
        tag=Tag.MODEL,
        summary="Load the model on every worker",
        parameters=SUBMITTING,
        body=RequestBody(ModelBody, {}, is_required=False),
        answers=[
            Answer("Every worker holds it.", ModelChanged, headers=headers.REPEATABLE),
            ACCEPTED,
        ],
        errors=(*MODEL_CHANGE, errors.IdempotencyMismatch),
    ),
    "slm.unload": Operation(
        id="unload",
        tag=Tag.MODEL,
        summary="Unload the model from every worker's memory",
        description="The next generation loads it again.",
        parameters=SUBMITTING,
        body=RequestBody(ModelBody, {}, is_required=False),
        answers=[
            Answer("No worker holds it any more.", ModelChanged, headers=headers.REPEATABLE),
            ACCEPTED,
        ],
        errors=(*MODEL_CHANGE, errors.IdempotencyMismatch),
    ),
    "quarantine.list_quarantine": Operation(
        id="listQuarantine",
        tag=Tag.OPERATE,
        summary="List the jobs that were set aside because several of their workers died",
        answers=[Answer("The jobs.", Quarantine)],
    ),
    "quarantine.retry_job": Operation(
        id="retryJob",
        tag=Tag.OPERATE,
        summary="Try a job from quarantine again, as a new one",
        parameters=(JOB_ID,),
        answers=[ACCEPTED],
        errors=(errors.JobNotFound, errors.Conflict, errors.NoWorker, errors.QueueFull, errors.RedisFull),
    ),
    "quarantine.drop_job": Operation(
        id="dropJob",
        tag=Tag.OPERATE,
        summary="Drop a job from quarantine",
        parameters=(JOB_ID,),
        answers=[Answer("It is dropped.", Dropped)],
        errors=(errors.JobNotFound,),
    ),
}
