"""Builds llama.cpp's answers, whole and in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from redis.exceptions import RedisError

from api.jobs.choices import GeneratedChoice
from api.jobs.generations import Generations, failure
from api.jobs.response_bodies import timings as job_timings
from api.jobs.sse import HEARTBEAT, event_comment, position_comment
from api.openai import errors
from api.openai.stream import data_frame
from api.schemas.llama_cpp import (
    LlamaAnswer,
    LlamaBody,
    LlamaPart,
    LlamaProbability,
    LlamaSampling,
    LlamaScored,
    LlamaTimings,
)
from common.errors import SLMError
from common.jobs.event_log import PAUSE
from common.jobs.events import Event, EventType
from common.jobs.job import JobRecord
from common.jobs.logprobs import ScoredToken, TokenLogprobs
from common.redis.client import explain

Json = dict[str, Any]
NAMES = {"regex": "grammar", "response_format": "json_schema", "logprobs": "n_probs"}
# Ways of sampling that this server does not have, with the values that mean "off"; clients look for them.
OFF: Json = {
    "dynatemp_range": 0.0,
    "typical_p": 1.0,
    "xtc_probability": 0.0,
    "dry_multiplier": 0.0,
    "mirostat": 0,
    "adaptive_target": -1.0,
    "adaptive_decay": 0.0,
}


def settings(body: LlamaSampling, seed: int) -> Json:
    """Return the settings of a generation."""
    set_here = (
        "n_predict temperature top_k top_p min_p repeat_penalty presence_penalty frequency_penalty ignore_eos stream "
        "n_probs grammar"
    )
    stop = [body.stop] if isinstance(body.stop, str) else body.stop
    ours = {name: getattr(body, name) for name in set_here.split()}
    biases = [{"token": token, "bias": bias} for token, bias in body.biases.items()]
    return {"seed": seed, **ours, "stop": stop, "logit_bias": biases, "max_tokens": body.n_predict, **OFF}


def whole(body: LlamaBody, index: int, choice: GeneratedChoice, record: JobRecord) -> LlamaAnswer:
    """Return the complete answer to a prompt, from its ended job."""
    answer = _end(body, index, choice, record)
    answer["content"] = choice.text
    answer["tokens"] = choice.token_ids if body.return_tokens else []
    if choice.logprobs is not None:
        answer["completion_probabilities"] = _probabilities(choice.logprobs)
    return answer


def selected(body: LlamaBody, answer: LlamaAnswer) -> LlamaAnswer | Json:
    """Return the answer with the fields that the client wants."""
    if not body.response_fields:
        return answer
    found: Json = {}
    for path in body.response_fields:
        value: Any = answer
        for name in path.split("/"):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            found[path] = value
    return found


def frames(
    body: LlamaBody,
    generations: Generations,
    end_of: Callable[[str], tuple[GeneratedChoice, JobRecord]],
    *,
    pulse_s: float,
) -> Iterator[str]:
    """Yield the frames of a stream, and an empty one if the next is not there yet (`together`); an error comes last.

    Args:
        body: the request.
        generations: its jobs, one for each prompt.
        end_of: reads an ended job and its record.
        pulse_s: how long to wait for a job in one go.
    """
    counts = [0] * generations.count
    try:
        for index, update in generations.updates(pulse_s=pulse_s):
            if update is PAUSE:
                yield ""
            elif (error := failure(update)) is not None:
                raise error
            elif not isinstance(update, Event):
                yield HEARTBEAT if update is None else position_comment(update)
            elif update.type is EventType.TOKEN:
                counts[index] += len(update.data["ids"])
                yield data_frame(_part(index, update, counts[index]))
            elif update.type is EventType.FINISHED:
                yield data_frame(_end(body, index, *end_of(generations.job_ids[index])))
            else:
                yield event_comment(update)
    except SLMError as err:
        generations.give_up(err)
        yield data_frame(errors.body(err.renamed(NAMES)))
    except RedisError as err:
        yield data_frame(errors.body(explain(err)))


def _part(index: int, event: Event, num_predicted: int) -> LlamaPart:
    part = LlamaPart(
        index=index,
        content=event.data["text"],
        tokens=event.data["ids"],
        stop=False,
        id_slot=0,
        tokens_predicted=num_predicted,
        tokens_evaluated=0,
    )
    if wire := event.data.get("logprobs"):
        part["completion_probabilities"] = _probabilities(wire)
    return part


def _end(body: LlamaBody, index: int, choice: GeneratedChoice, record: JobRecord) -> LlamaAnswer:
    """Return the last part of a stream: everything but the text."""
    return LlamaAnswer(
        index=index,
        content="",
        tokens=[],
        id_slot=0,
        stop=True,
        model=record.model,
        tokens_predicted=choice.completion_tokens,
        tokens_evaluated=choice.prompt_tokens,
        generation_settings=settings(body, record.params["sampling"]["seed"]),
        prompt=choice.prompt_text,
        has_new_line="\n" in choice.text,
        truncated=False,
        stop_type=_stop_type(choice),
        stopping_word=choice.stop_string or "",
        tokens_cached=choice.prompt_tokens + choice.completion_tokens,
        timings=timings(choice, record),
    )


def _stop_type(choice: GeneratedChoice) -> Literal["eos", "limit", "word"]:
    if choice.finish_reason == "length":
        return "limit"
    return "eos" if choice.stop_string is None else "word"


def timings(choice: GeneratedChoice, record: JobRecord) -> LlamaTimings:
    """Return the durations of an ended job. The first token needs no step of its own after the prompt."""
    took, num_steps = job_timings(record), max(choice.completion_tokens - 1, 0)
    prompt_ms = float(took["first_token_ms"] or 0)
    predicted_ms = max(float(took["run_ms"] or 0) - prompt_ms, 0.0) if num_steps else 0.0
    num_computed = choice.prompt_tokens - choice.cached_tokens
    return LlamaTimings(
        cache_n=choice.cached_tokens,
        prompt_n=num_computed,
        prompt_ms=prompt_ms,
        prompt_per_token_ms=prompt_ms / num_computed if num_computed else 0.0,
        prompt_per_second=1000.0 * num_computed / prompt_ms if prompt_ms else 0.0,
        predicted_n=choice.completion_tokens,
        predicted_ms=predicted_ms,
        predicted_per_token_ms=predicted_ms / num_steps if num_steps else 0.0,
        predicted_per_second=1000.0 * num_steps / predicted_ms if predicted_ms else 0.0,
    )


def _probabilities(wire: Sequence[Any]) -> list[LlamaProbability]:
    tokens = [TokenLogprobs.from_wire(one) for one in wire]
    return [
        cast(LlamaProbability, {**_scored(one.chosen), "top_logprobs": [_scored(other) for other in one.top]})
        for one in tokens
    ]


def _scored(token: ScoredToken) -> LlamaScored:
    return LlamaScored(id=token.token_id, token=token.text, bytes=list(token.token), logprob=token.logprob)
