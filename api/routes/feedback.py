"""Routes for feedback on jobs, and for the datasets that are made of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, jsonify, request

from api import feedback_examples
from api.auth.access import Access, set_access
from api.current import begin_work, caller, services
from api.http.request_body import json_text
from api.schemas.feedback import (
    DeletedFeedback,
    FeedbackBody,
    FeedbackDataset,
    FeedbackDatasetBody,
    FeedbackList,
    FeedbackQuery,
    FeedbackSelection,
    JobFeedback,
    ShownFeedback,
)
from api.schemas.json_object import json_object
from api.schemas.parsing import SLM, parse
from api.schemas.query import natural
from api.times import iso
from common.errors import Conflict, Forbidden, InvalidRequest, JobNotFound, NotFound
from common.jobs.job import GenerateResult, JobRecord, Lane
from common.jobs.prompts import as_sent, from_wire, to_wire
from common.owners.feedback import Feedback, Judged, Judgement, Rating, Wanted

EXAMPLE = {"pairs": feedback_examples.pair, "preferences": feedback_examples.preference}
LIMITS = ("length", "cancelled")  # reasons for which an answer is not complete

feedback = Blueprint("feedback", __name__, url_prefix="/slm")
set_access(feedback, Access.USER)


@feedback.post("/jobs/<job_id>/feedback")
def give_feedback(job_id: str) -> Response:
    """Say what you think of an answer; replaces what you said before."""
    body = parse(FeedbackBody, json_object(json_text()), SLM)
    owner, judged = _answer_of(job_id)
    judgement = Judgement(body.rating, body.correction, tuple(dict.fromkeys(body.tags)))
    kept = services().feedback.put(job_id, owner, judgement, judged, services().keyring.limits_of(owner))
    return jsonify(_shown(kept))


@feedback.get("/jobs/<job_id>/feedback")
def show_feedback(job_id: str) -> Response:
    """Show the feedback on a job, also after the job's record has expired."""
    return jsonify(_shown(_find(job_id)))


@feedback.delete("/jobs/<job_id>/feedback")
def delete_feedback(job_id: str) -> Response:
    """Delete the feedback on a job."""
    services().feedback.delete(_find(job_id))
    return jsonify(DeletedFeedback(success=True, job_id=job_id))


@feedback.get("/feedback")
def list_feedback() -> Response:
    """List the feedback on the caller's jobs; for an admin, on everybody's."""
    query = parse(FeedbackQuery, _query(), SLM)
    begin_work()
    page = services().feedback.page(_wanted(query, query.rating), after=query.after, limit=query.limit)
    last_id = page.items[-1].job_id if page.items else None
    found = [_described(one) for one in page.items]
    return jsonify(FeedbackList(success=True, feedback=found, last_id=last_id, has_more=page.has_more))


@feedback.post("/feedback/dataset")
def make_dataset() -> Response:
    """Make a dataset of feedback and store it as a file."""
    body = parse(FeedbackDatasetBody, json_object(json_text()), SLM)
    found = [EXAMPLE[body.kind](one) for one in services().feedback.read(_wanted(body))]
    lines = list(_bounded(line for line in found if line is not None))
    if not lines:
        message = f"There is no feedback of which {body.kind} can be made with these filters."
        raise NotFound(message, param="kind")
    owner, limits = caller().owner, services().keyring.limits_of(caller().owner)
    kept = services().files.put(owner, body.filename, "fine-tune", [*lines, ""], limits=limits)
    response = jsonify(
        FeedbackDataset(
            success=True,
            file_id=kept.id,
            filename=kept.filename,
            bytes=kept.bytes,
            kind=body.kind,
            examples=len(lines),
            left_out=len(found) - len(lines),
        )
    )
    response.status_code = 201
    return response


def _query() -> dict[str, Any]:
    """Return the fields of the query: `tags` is a list, because it may be repeated, and `limit` a number."""
    fields: dict[str, Any] = request.args.to_dict()
    if "tags" in fields:
        fields["tags"] = request.args.getlist("tags")
    if (limit := natural(fields.get("limit", ""))) is not None:
        fields["limit"] = limit
    return fields


def _wanted(selection: FeedbackSelection, rating: Rating | None = None) -> Wanted:
    if selection.owner is not None and not caller().may_see(selection.owner):
        raise Forbidden("Only an admin may see others' feedback.", param="owner")
    owner = selection.owner if caller().is_admin else caller().owner
    times = _ms(selection.since), _ms(selection.until)
    return Wanted(owner, frozenset(selection.tags), selection.model, *times, rating)


def _ms(moment: str | None) -> int | None:
    return None if moment is None else round(datetime.fromisoformat(moment).timestamp() * 1000)


def _bounded(lines: Iterator[str]) -> Iterator[str]:
    limit, size = services().settings.max_file_bytes, 0
    for line in lines:
        size += len(line.encode()) + 1
        if size > limit:
            raise InvalidRequest(f"The dataset would be larger than {limit} bytes; select less by tags, model or time.")
        yield line


def _answer_of(job_id: str) -> tuple[str, Judged]:
    """Return the owner and the answer of a job; those of its feedback if only that is left.

    Raises:
        JobNotFound: there is neither, or it is not the caller's.
        Conflict: the job is no generation, has not ended, or has no answer.
    """
    try:
        record = services().jobs.get(job_id, caller())
    except JobNotFound as err:
        try:
            known = _find(job_id)
        except NotFound:
            raise err from None
        return known.owner, known.judged
    return record.owner, _judged(record)


def _judged(record: JobRecord) -> Judged:
    if record.kind.lane is not Lane.GENERATE:
        raise Conflict(f"Only answers can be judged; this job is of the kind {record.kind}.")
    if not record.state.is_terminal:
        raise Conflict("The job has not ended yet; its answer can be judged after that.")
    if not record.result:
        raise Conflict("The job has ended without an answer that could be judged.")
    result = GenerateResult.from_dict(record.result)
    is_complete = result.finish_reason not in LIMITS
    return Judged(to_wire(from_wire(record.params)), result.response, is_complete, record.model, record.base)


def _find(job_id: str) -> Feedback:
    """Return the feedback on a job that the caller may see. Raises `NotFound`."""
    found = services().feedback.find(job_id)
    if not caller().may_see(found.owner):
        raise NotFound(f"There is no feedback on job {job_id!r}.", param="job_id")
    return found


def _shown(one: Feedback) -> ShownFeedback:
    return ShownFeedback(success=True, **_described(one))


def _described(one: Feedback) -> JobFeedback:
    return JobFeedback(
        job_id=one.job_id,
        rating=one.judgement.rating,
        correction=one.judgement.correction,
        tags=list(one.judgement.tags),
        prompt=as_sent(from_wire(one.judged.prompt)),
        response=one.judged.response,
        model=one.judged.model,
        base=one.judged.base,
        created_at=iso(one.created_ms),
        updated_at=iso(one.updated_ms),
    )
