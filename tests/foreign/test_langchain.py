"""LangChain's ChatOpenAI and OpenAIEmbeddings."""

from __future__ import annotations

import json

import pytest

from common.errors import PromptTooLong, WorkerLost
from common.jobs.sampling import GrammarKind
from tests.foreign.conftest import Site
from tests.foreign.foreign_python import INSTALL_S, ForeignPython
from tests.scripted_worker import Play, answer

pytestmark = pytest.mark.timeout(INSTALL_S)

CHAT = """
import openai
from langchain_openai import ChatOpenAI
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel

def chat(model="gpt2", **fields):
    return ChatOpenAI(model=model, timeout=120, **{"max_retries": 0} | fields)

def refused(call):
    try:
        call()
    except openai.APIError as err:
        out([type(err).__name__, err.code])
"""
STORY = answer("Once ", "upon ", "a time.")


def run(python: ForeignPython, program: str) -> list[object]:
    return python.run(CHAT + program)


def test_a_chat_and_its_usage(site: Site, python: ForeignPython) -> None:
    program = """
message = chat(temperature=0, max_tokens=9, seed=1, stop=["x"]).invoke([("system", "Be brief."), ("human", "Hi there")])
out([message.content, message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]])
out([message.response_metadata["finish_reason"], message.response_metadata["model_name"]])
"""
    with site.worker(STORY):
        said, how = run(python, program)
    assert said[0] == "Once upon a time."
    assert said[2] == 3
    assert how == ["stop", "gpt2"]


def test_embeddings_of_texts(site: Site, python: ForeignPython) -> None:
    program = """
from langchain_openai import OpenAIEmbeddings

texts = OpenAIEmbeddings(model="tiny-encoder", check_embedding_ctx_length=False, max_retries=0)
out([one[0] for one in texts.embed_documents(["a", "abc"])])
out(texts.embed_query("abc")[0])
"""
    with site.worker(STORY) as worker:
        worker.serve_embeddings()
        assert run(python, program) == [[0.5, 1.5], 1.5]


def test_a_stream_with_its_usage(site: Site, python: ForeignPython) -> None:
    program = """
pieces = list(chat(stream_usage=True).stream("Hi"))
out([piece.content for piece in pieces if piece.content])
whole = sum(pieces[1:], pieces[0])
out([whole.content, whole.usage_metadata["output_tokens"], whole.response_metadata["finish_reason"]])
"""
    with site.worker(STORY):
        assert run(python, program) == [["Once ", "upon ", "a time."], ["Once upon a time.", 3, "stop"]]


def test_chains_batches_and_coroutines(site: Site, python: ForeignPython) -> None:
    program = """
import asyncio
template = ChatPromptTemplate.from_messages([("system", "Speak {language}."), ("human", "{text}")])
chain = template | chat() | StrOutputParser()
out(chain.batch([{"language": "Latin", "text": str(number)} for number in range(3)]))

async def pieces():
    return [piece async for piece in chain.astream({"language": "Latin", "text": "Hi"})]

out("".join(asyncio.run(pieces())))
"""
    with site.worker(STORY):
        assert run(python, program) == [["Once upon a time."] * 3, "Once upon a time."]


def test_an_answer_that_follows_a_schema(site: Site, python: ForeignPython) -> None:
    grammars = []

    def script(play: Play) -> None:
        grammars.append(play.params.sampling.grammar)
        play.end('{"setup": "Why?", "rating": 3}')

    program = """
class Joke(BaseModel):
    setup: str
    rating: int

joke = chat().with_structured_output(Joke).invoke("A joke, please.")
out([joke.setup, joke.rating])
out(chat().with_structured_output(Joke.model_json_schema(), method="json_schema").invoke("Another.")["rating"])
out(chat().with_structured_output(Joke, method="json_mode").invoke("One more.").rating)
"""
    with site.worker(script):
        assert run(python, program) == [["Why?", 3], 3, 3]
    assert [grammar.kind for grammar in grammars] == [GrammarKind.JSON_SCHEMA] * 2 + [GrammarKind.JSON_OBJECT]
    assert set(json.loads(grammars[0].source)["properties"]) == {"setup", "rating"}


def test_its_responses_are_ours(site: Site, python: ForeignPython) -> None:
    program = """
model = chat(use_responses_api=True)
out(model.invoke("Hi").text)
out("".join(piece.text for piece in model.stream("Hi")))
"""
    with site.worker(STORY):
        assert run(python, program) == ["Once upon a time."] * 2


def test_errors_are_the_classes_that_it_knows(site: Site, python: ForeignPython, too_long: PromptTooLong) -> None:
    program = """
refused(lambda: chat(temperature=9).invoke("Hi"))
refused(lambda: chat(model="gpt-5").invoke("Hi"))
refused(lambda: chat(api_key="wrong").invoke("Hi"))
refused(lambda: chat().bind_tools([{"type": "web_search"}]).invoke("Hi"))
refused(lambda: chat().invoke("Hi"))
"""
    with site.worker(lambda play: play.fail(too_long)):
        assert run(python, program) == [
            ["OpenAIInvalidRequestError", "invalid_request"],
            ["OpenAIModelNotFoundError", "model_not_found"],
            ["OpenAIAuthenticationError", "invalid_api_key"],
            ["OpenAIInvalidRequestError", "invalid_request"],
            ["OpenAIContextOverflowError", "context_length_exceeded"],
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
out(chat(max_retries=2).invoke("Hi").content)
pieces = []
refused(lambda: pieces.extend(piece.content for piece in chat().stream("Hi")))
out("".join(pieces))
"""
    with site.worker(script):
        assert run(python, program) == ["ok", ["APIError", "worker_lost"], "Once "]
