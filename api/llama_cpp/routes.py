"""llama.cpp's own routes: completions, infills, and facts about the server."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, jsonify

from api import __version__
from api.auth.access import Access, set_access
from api.current import caller, services
from api.jobs.choices import GeneratedChoice
from api.jobs.request import job_options, keyed, read_body
from api.jobs.running import completed, opened, tokenized
from api.jobs.sse import stream_response, together
from api.llama_cpp import answers
from api.openai.chat import CHAT, ChatBody
from api.schemas.llama_cpp import (
    LlamaBody,
    LlamaCompletionBody,
    LlamaInfillBody,
    LlamaPrompt,
    LlamaProps,
    LlamaSampling,
    LlamaSlot,
)
from api.schemas.messages import conversation
from api.schemas.openai.responses import InputTokens
from api.service import NewJob
from common.adapters.names import DEFAULT_ALIAS, public_name
from common.errors import SLMError
from common.jobs.job import JobKind, JobRecord, TokenizeResult, Wanted
from common.jobs.prompts import RawText

llama_cpp = Blueprint("llama_cpp", __name__)
set_access(llama_cpp, Access.USER)


@llama_cpp.post("/completion")
def complete() -> Response:
    """Continue texts or tokens, whole or as a stream."""
    return _complete(read_body(LlamaCompletionBody))


@llama_cpp.post("/infill")
def infill() -> Response:
    """Fill in the text between a prefix and a suffix."""
    return _complete(read_body(LlamaInfillBody))


@llama_cpp.get("/props")
def props() -> Response:
    """Return facts about the server and its default model."""
    result = tokenized(RawText(" "), DEFAULT_ALIAS, [Wanted.ABOUT])
    about, workers = result.about or {}, services().overview.snapshot().workers
    base = next((one.base_model for one in workers if one.base_model), "") or ""
    defaults = LlamaSampling.model_validate({})
    return jsonify(
        LlamaProps(
            default_generation_settings={
                "n_ctx": result.context_length,
                "params": answers.settings(defaults, defaults.seed),
            },
            total_slots=sum(one.slots for one in workers),
            model_alias=DEFAULT_ALIAS,
            model_path=public_name(base),
            modalities={"vision": False, "audio": False},
            chat_template=about.get("chat_template", ""),
            bos_token=about.get("bos_token", ""),
            eos_token=about.get("eos_token", ""),
            build_info=f"slm-{__version__}",
        )
    )


@llama_cpp.get("/slots")
def slots() -> Response:
    """Return the places for generations, and which are taken."""
    settings = services().settings
    found: list[LlamaSlot] = []
    for worker in services().overview.snapshot().workers:
        context = worker.context or settings.context
        for number in range(worker.slots):
            is_taken = number < worker.running
            found.append(LlamaSlot(id=len(found), n_ctx=context, speculative=False, is_processing=is_taken))
    return jsonify(found)


@llama_cpp.post("/apply-template")
def apply_template() -> Response:
    """Return a chat as the model sees it."""
    return jsonify(LlamaPrompt(prompt=_chat().text))


@llama_cpp.post("/v1/chat/completions/input_tokens")
def count_input_tokens() -> Response:
    """Count the tokens of a chat as the model sees it."""
    return jsonify(InputTokens(object="response.input_tokens", input_tokens=len(_chat().ids)))


def _chat() -> TokenizeResult:
    """Return the chat in the current request as the model sees it."""
    body = read_body(ChatBody)
    prompt = conversation(body.messages, body.ending, body.tool_use.shown, body.chat_template_kwargs)
    try:
        return tokenized(prompt, body.model)
    except SLMError as err:
        raise err.renamed(CHAT.names_of(body)) from err


def _complete(body: LlamaBody) -> Response:
    new = _new_jobs(body)
    if body.stream:
        _, generations = opened(new, answers.NAMES)
        written = answers.frames(body, generations, _reader(), pulse_s=services().settings.heartbeat_s)
        return stream_response(together(written), generations.close)
    _, choices = completed(new, answers.NAMES)
    whole = [
        answers.selected(body, answers.whole(body, index, choice, services().jobs.get(choice.job_id, caller())))
        for index, choice in enumerate(choices)
    ]
    return jsonify(whole if body.has_several else whole[0])


def _new_jobs(body: LlamaBody) -> list[NewJob]:
    options, seed = job_options(body, body.model, is_async=False), body.drawn_seed()
    kind = JobKind.STREAM if body.stream else JobKind.GENERATE
    return [
        NewJob(caller().owner, kind, body.generation(prompt, seed).to_dict(), keyed(options, body, index))
        for index, prompt in enumerate(body.prompts)
    ]


def _reader() -> Callable[[str], tuple[GeneratedChoice, JobRecord]]:
    """Return a function that reads an ended job, also after the request's context has ended."""
    jobs, who = services().jobs, caller()

    def read(job_id: str) -> tuple[GeneratedChoice, JobRecord]:
        record = jobs.get(job_id, who)
        return GeneratedChoice.of(record, jobs.logged_events(job_id)), record

    return read
