"""LiteLLM, with the server as an OpenAI-compatible provider."""

from __future__ import annotations

import pytest

from common.errors import PromptTooLong, WorkerLost
from common.jobs.sampling import GrammarKind
from tests.foreign.conftest import Site
from tests.foreign.foreign_python import INSTALL_S, ForeignPython
from tests.scripted_worker import Play, answer

pytestmark = pytest.mark.timeout(INSTALL_S)

COMPLETE = """
import litellm
import openai

def complete(model="openai/gpt2", **fields):
    return litellm.completion(model, [{"role": "user", "content": "Hi"}], **{"timeout": 20, "max_retries": 0} | fields)

def refused(call):
    try:
        call()
    except openai.APIError as err:
        out([type(err).__name__, err.status_code])
"""
STORY = answer("Once ", "upon ", "a time.")


def run(python: ForeignPython, program: str) -> list[object]:
    return python.run(COMPLETE + program)


def test_a_chat_and_its_usage(site: Site, python: ForeignPython) -> None:
    program = """
done = complete(n=2, temperature=0, max_tokens=9, seed=1, stop=["x"], user="ada")
out([choice.message.content for choice in done.choices])
out([done.choices[0].finish_reason, done.model, done.usage.completion_tokens])
"""
    with site.worker(STORY):
        assert run(python, program) == [["Once upon a time."] * 2, ["stop", "gpt2", 6]]


def test_a_stream_with_its_usage(site: Site, python: ForeignPython) -> None:
    program = """
pieces = list(complete(stream=True, stream_options={"include_usage": True}))
out([text for piece in pieces if (text := piece.choices[0].delta.content)])
whole = litellm.stream_chunk_builder(pieces)
out([whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.completion_tokens])
"""
    with site.worker(STORY):
        assert run(python, program) == [["Once ", "upon ", "a time."], ["Once upon a time.", "stop", 3]]


def test_coroutines_and_plain_completions(site: Site, python: ForeignPython) -> None:
    program = """
import asyncio

async def story():
    pieces = await litellm.acompletion("openai/gpt2", [{"role": "user", "content": "Hi"}], stream=True)
    return "".join([piece.choices[0].delta.content or "" async for piece in pieces])

out(asyncio.run(story()))
out(litellm.text_completion("Hi", model="text-completion-openai/gpt2", max_tokens=5).choices[0].text)
"""
    with site.worker(STORY):
        assert run(python, program) == ["Once upon a time."] * 2


def test_an_answer_that_follows_a_schema(site: Site, python: ForeignPython) -> None:
    grammars = []

    def script(play: Play) -> None:
        grammars.append(play.params.sampling.grammar.kind)
        play.end('{"rating": 3}')

    program = """
from pydantic import BaseModel

class Joke(BaseModel):
    rating: int

out(complete(response_format=Joke).choices[0].message.content)
out(complete(response_format={"type": "json_object"}).choices[0].message.content)
"""
    with site.worker(script):
        assert run(python, program) == ['{"rating": 3}'] * 2
    assert grammars == [GrammarKind.JSON_SCHEMA, GrammarKind.JSON_OBJECT]


def test_errors_are_the_classes_that_it_knows(site: Site, python: ForeignPython, too_long: PromptTooLong) -> None:
    program = """
refused(lambda: complete(temperature=9))
refused(lambda: complete("openai/gpt-5"))
refused(lambda: complete(api_key="wrong"))
refused(lambda: complete(extra_body={"best_of": 2}))
refused(complete)
"""
    with site.worker(lambda play: play.fail(too_long)):
        assert run(python, program) == [
            ["BadRequestError", 400],
            ["NotFoundError", 404],
            ["AuthenticationError", 401],
            ["BadRequestError", 400],
            ["ContextWindowExceededError", 400],
        ]


def test_temporary_failures_are_retried_and_an_error_in_a_stream_is_raised(site: Site, python: ForeignPython) -> None:
    asked = []

    def script(play: Play) -> None:
        asked.append(play.prompt)
        if len(asked) == 1:
            play.fail(WorkerLost("gone"))
        elif len(asked) == 2:
            play.end("ok")
        else:
            play.say("Once ")
            play.fail(WorkerLost("gone"))

    program = """
out(complete(max_retries=2).choices[0].message.content)
pieces = []
refused(lambda: pieces.extend(piece.choices[0].delta.content for piece in complete(stream=True)))
out("".join(pieces))
"""
    with site.worker(script):
        assert run(python, program) == ["ok", ["MidStreamFallbackError", 500], "Once "]
